"""The documentation: its code runs, its commands exist, its site builds and needs no network."""

import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from textwrap import indent
from urllib.parse import unquote, urlsplit

import click
import pytest

import burnish
from burnish.cli.commands import cli
from burnish.training.train import WORDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# The log tells of commands as they were called at the time.
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.name != "log.md")
PAGES += [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
RUN = ["index.md", "quickstart.md", "tutorial.md", "how-to/library.md", "how-to/evaluate.md",
       "how-to/robust-classifier.md"]  # fmt: skip
FENCE_OF_SHELL = re.compile(r"^```(?:bash|console|sh|text)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name_of(path):
    return str(path.relative_to(ROOT))


def python_of(path):
    return FENCE.findall(path.read_text())


def commands_of(path):
    """Yield the arguments of each ``burnish ...`` in blocks of code and in backticks."""
    text = path.read_text()
    if path.suffix == ".yaml":
        text = re.sub("^#", " ", text, flags=re.MULTILINE)
    text = text.replace("\\\n", " ")
    text = FENCE_OF_SHELL.sub(lambda found: indent(found[1], "    "), text)
    lines = re.findall(r"^ {4,}(?:.*uv run (?:--\S+ )*)?burnish +(\S.*)$", text, re.MULTILINE)
    inline = re.findall(r"`burnish +([^`]+)`", text)
    for line in lines + inline:
        arguments = shlex.split(line, comments=True)
        if re.fullmatch(r"--\w[\w-]*|[a-z][a-z-]*", arguments[0]):
            yield arguments


@pytest.mark.parametrize("page", RUN)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = python_of(DOCS / page)
    assert blocks
    names = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_code_uses_public_names_only(path):
    for block in python_of(path):
        compile(block, str(path), "exec")
        for name in re.findall(r"(?<!from )\bburnish\.(\w+)", block):
            assert name in burnish.__all__, name


@pytest.mark.parametrize("path", PAGES + EXPERIMENTS, ids=name_of)
def test_commands_are_ones_that_burnish_understands(path):
    for name, *arguments in commands_of(path):
        if name in ("--help", "--version"):
            continue
        assert name in cli.commands, f"burnish {name}"
        command = cli.commands[name]
        context = click.Context(command, info_name=name)
        # Reads options without looking at files; an option that does not exist raises.
        given, _, order = command.make_parser(context).parse_args(list(arguments))
        for parameter in order:
            value, choices = given[parameter.name], (parameter.metavar or "").split("|")
            if len(choices) > 1:
                assert value in choices, f"burnish {name}: {value}"
        if name == "train" and isinstance(given["what"], str):
            assert given["what"] in WORDS


def test_the_commands_of_the_pages_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Give `burnish doctor GUIDE`.\n\n"
        "    burnish refine a.npz --guide \\\n      b  # a note\n\n"
        "burnish is a program.\n\n    .uv/bin/uv run --no-dev burnish demo\n"
    )
    found = list(commands_of(page))
    assert sorted(found) == [["demo"], ["doctor", "GUIDE"], ["refine", "a.npz", "--guide", "b"]]


class Page(HTMLParser):
    """Collects what a page links to, what it loads, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe") and values.get("src"):
            self.loads.append(values["src"])
        if tag == "link" and values.get("rel") != "canonical" and values.get("href"):
            self.loads.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed; uv sync installs it")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Page(path.read_text()) for path in out.rglob("*.html")}


def test_every_page_is_on_the_site(site):
    names = {path.stem for path in site}
    assert {path.stem for path in DOCS.rglob("*.md")} <= names


def test_the_reference_has_every_public_name(site):
    (page,) = (page for path, page in site.items() if path.name == "python.html")
    assert set(burnish.__all__) <= {anchor.rpartition(".")[2] for anchor in page.anchors}


def test_links_within_the_site_lead_somewhere(site):
    for path, page in site.items():
        if path.name == "404.html":  # its links are absolute, as it is shown at any address
            continue
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in site:
                anchors = site[target].anchors
                assert unquote(parts.fragment) in anchors, f"{path.name}: {link}"


def test_pages_load_nothing_from_elsewhere(site):
    for path, page in site.items():
        for asset in page.loads:
            assert not urlsplit(asset).netloc, f"{path.name}: {asset}"
