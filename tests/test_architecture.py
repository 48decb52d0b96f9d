"""Imports point downwards, importing is free, and files stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import burnish

ROOT = Path(burnish.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
# From the top down. A module imports from lower layers and from its own package.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["studies", "gallery"],
    ["report", "survey"],
    ["jobs", "api", "ray_data"],
    ["training"],
    ["refinement"],
    ["generators", "guide", "metrics"],
    ["foreign"],
    ["storage", "checkpoint", "hub"],
    ["web"],
    ["ascent", "networks", "files"],
    ["schema"],
    ["documents", "leftovers", "progress", "samples", "seeds"],
    ["errors"],
]
HEIGHT = {name: -height for height, names in enumerate(LAYERS) for name in names}
# Whatever the layers say.
IMPORTS_NOTHING_OF = {
    "ascent": [name for name in HEIGHT if name != "ascent"],
    "metrics": ["guide", "generators", "refinement", "training"],
}
MAX_LINES = 250


def part_of(module):
    """Return the package or module below burnish that a module belongs to; "" for burnish."""
    return module.split(".")[1] if "." in module else ""


def imports(path, lazy=True):
    """Yield what a file imports at its top and, if lazy, in functions and for type checking."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


IMPORTS = {
    module: {name for name in imports(path) if name.split(".")[0] == "burnish"}
    for module, path in MODULES.items()
}


def test_imports_point_downwards():
    wrong = []
    for module, targets in IMPORTS.items():
        here = part_of(module)
        for target in targets:
            there = part_of(target)
            # burnish itself imports its public names when they are used, and holds the version.
            if not here or not there or here == there:
                continue
            assert here in HEIGHT and there in HEIGHT, f"{here} or {there} has no layer"
            if HEIGHT[there] >= HEIGHT[here] or there in IMPORTS_NOTHING_OF.get(here, []):
                wrong.append(f"{module} imports {target}")
    assert not wrong, "\n".join(wrong)
    assert sum(map(len, IMPORTS.values())) > 100  # the reading of imports itself works


def test_no_module_imports_itself_by_way_of_others():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        # Guide.from_pretrained, for example, imports a module that imports guides, when called.
        for target in sorted({*imports(MODULES[module], lazy=False)} & MODULES.keys()):
            visit(target)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)
    assert len(done) == len(MODULES)


def test_the_ascent_imports_torch_alone():
    found = {
        name.split(".")[0]
        for module, path in MODULES.items()
        if part_of(module) == "ascent"
        for name in imports(path)
    }
    assert found - set(sys.stdlib_module_names) == {"torch", "burnish"}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_short_and_says_what_it_is(module):
    text = MODULES[module].read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= MAX_LINES


def test_packages_hold_several_modules_and_their_init_a_docstring_alone():
    for init in ROOT.rglob("__init__.py"):
        if init.parent == ROOT:
            continue
        assert len(list(init.parent.glob("*.py"))) > 2, f"{init.parent} is a package of one module"
        assert len(ast.parse(init.read_text()).body) == 1, f"{init} holds more than a docstring"


# Runs in a process of its own: nothing has been imported before, and nothing is spoiled after.
IMPORT_ALL = """
import importlib, os, random, socket, sys

def refuse(*_, **__):
    raise AssertionError("a module opens a connection when it is imported")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy, torch
states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
for module in sys.argv[1:]:
    importlib.import_module(module)
    now = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert now == states, f"importing {module} changes a random state"
assert torch.get_default_dtype() == torch.float32 and not os.listdir()
"""


def run(code, folder, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_importing_connects_to_nothing_and_changes_no_random_state(tmp_path):
    modules = [module for module in MODULES if module != "burnish.__main__"]
    done = run(IMPORT_ALL, tmp_path, *modules)
    assert done.returncode == 0 and not done.stdout and not done.stderr, done.stderr


HEAVY = ["torch", "timm", "torchvision", "diffusers", "accelerate", "pyarrow", "matplotlib",
         "torch_fidelity", "huggingface_hub"]  # fmt: skip
# A library that others have no need of is not imported by them. Each is imported after the last.
WITHOUT_TORCH = ["burnish", "burnish.cli.commands", "burnish.refinement.settings",
                 "burnish.jobs.options", "burnish.training.config", "burnish.survey.options",
                 "burnish.survey.serve", "burnish.survey.report"]  # fmt: skip
WITH_TORCH = ["burnish.api", "burnish.storage.formats", "burnish.guide.load",
              "burnish.metrics.evaluate"]  # fmt: skip
IMPORT_EACH = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module, *sys.modules)
"""


@pytest.mark.parametrize(
    ("modules", "heavy"), [(WITHOUT_TORCH, HEAVY), (WITH_TORCH, HEAVY[1:])], ids=["all", "torch"]
)
def test_importing_is_cheap(modules, heavy, tmp_path):
    done = run(IMPORT_EACH, tmp_path, *modules)
    assert done.returncode == 0, done.stderr
    found = {name: set(loaded) for name, *loaded in map(str.split, done.stdout.splitlines())}
    assert list(found) == modules
    assert not {name: loaded & {*heavy} for name, loaded in found.items() if loaded & {*heavy}}
