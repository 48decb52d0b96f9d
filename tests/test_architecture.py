"""Imports point downwards, and importing is free."""

import ast
import importlib
import socket
import sys
from pathlib import Path

import pytest
import torch

import burnish

ROOT = Path(burnish.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
# From the bottom up. The longest name that fits says where a module stands; a module imports from
# lower levels, and within its own package from its own level too.
LEVELS = [
    ["", "errors"],
    ["seeds", "config"],
    ["samples", "networks", "views"],
    ["refine.ascent", "checkpoint", "storage", "metrics.formulas", "metrics.moments"],
    ["generators", "guide", "training", "storage.datasets", "refine.labels", "provenance"],
    ["metrics.inception"],
    ["metrics.features", "metrics.reference"],
    ["refine", "metrics"],
    ["report", "engines"],
    ["recipes", "demo", "experiment"],
    ["commands", "tables"],
    ["cli"],
    ["__main__"],
]
# What must not be known at all, whatever the levels say.
BANNED = {
    "refine.ascent": [""],
    "metrics": ["generators", "guide", "refine", "networks"],
    "networks": ["generators", "guide"],
    "storage": ["generators", "guide", "refine", "networks", "metrics"],
}


def within(name, family):
    return not family or name == family or name.startswith(f"{family}.")


def level(name):
    found = [
        (len(family), height)
        for height, families in enumerate(LEVELS)
        for family in families
        if (within(name, family) if family else not name)
    ]
    assert found, f"burnish.{name} has no level; give it one in LEVELS"
    return max(found)[1]


def imports(path):
    """Yield the burnish modules that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if within(a.name, "burnish"))
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports in full"
            if within(node.module or "", "burnish"):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in MODULES else str(node.module)


def test_imports_point_downwards():
    wrong, count = [], 0
    for module, path in MODULES.items():
        name = module.removeprefix("burnish").removeprefix(".")
        for target in (t.removeprefix("burnish").removeprefix(".") for t in imports(path)):
            count += 1
            same = name.split(".")[0] == target.split(".")[0] and level(name) == level(target)
            banned = any(
                within(name, who) and within(target, what)
                for who, whats in BANNED.items()
                for what in whats
            )
            if not (level(target) < level(name) or same) or banned:
                wrong.append(f"burnish.{name} imports burnish.{target}")
    assert not wrong, "\n".join(wrong)
    assert count > 50  # the reading of imports itself works


def test_importing_is_free(monkeypatch, tmp_path, capfd):
    def refuse(*_, **__):
        raise AssertionError("a module opens a connection when it is imported")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    random_state = torch.get_rng_state()
    # Other libraries stay; ours are executed again and then put back as they were.
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if within(name, "burnish")}
    try:
        for module in MODULES:
            if not module.endswith("__main__"):
                importlib.import_module(module)
    finally:
        for name in [name for name in sys.modules if within(name, "burnish")]:
            del sys.modules[name]
        sys.modules.update(before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not list(tmp_path.iterdir())
    assert not capfd.readouterr().out


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    tree = ast.parse(MODULES[module].read_text())
    assert not tree.body or ast.get_docstring(tree)
