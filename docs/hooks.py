"""What mkdocs calls for each page of the documentation site.

Some pages are generated from measurements, and some link to files of the repository that are not
part of the site. They stay as they are; only what the site shows is changed.
"""

import dataclasses
import importlib
import re
import sys
import typing
from pathlib import Path
from typing import Any

__all__ = ["on_page_content", "on_page_markdown"]

SOURCE = Path(__file__).parents[1] / "src"

# A link from docs/ to a file beside it, e.g. [name](../results/name.json).
OUTSIDE = re.compile(
    r"(?<!!)\[([^\]]+)\]\((?:\.\./)+"
    r"((?:benchmarks|examples|experiments|results|src|tests|README|LICENSE|[A-Z]+\.)[^)\s]*)\)"
)
# A cross-reference of a docstring, e.g. :func:`~burnish.seeds.stream`.
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>(~?)([\w.]+)</code>")
# What burnish imports for the type checker only: where each public name is defined.
IMPORT = re.compile(r"from (burnish[\w.]+) import ([\w, ]+)")
PUBLIC = re.compile(r"^::: burnish\.(\w+)$", re.MULTILINE)
# <!-- settings: module.Class -->
SETTINGS = re.compile(r"^<!-- settings: ([\w.]+)\.(\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page's Markdown as the site needs it.

    Links to files outside ``docs/`` become their paths, Markdown inside ``<details>`` is rendered,
    public names of burnish lead to their docstrings, and a comment ``settings: module.Class``
    becomes the table of a dataclass's fields.
    """
    homes = _homes()
    markdown = PUBLIC.sub(lambda found: f"::: {homes[found[1]]}.{found[1]}", markdown)
    markdown = OUTSIDE.sub(_path, markdown).replace("<details>", '<details markdown="1">')
    return SETTINGS.sub(_settings, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Return a page's HTML with the cross-references of docstrings as plain names."""
    return ROLE.sub(lambda role: f"<code>{_name(*role.groups())}</code>", html)


def _homes() -> dict[str, str]:
    found = IMPORT.findall((SOURCE / "burnish" / "__init__.py").read_text())
    return {name: module for module, names in found for name in names.split(", ")}


def _name(short: str, dotted: str) -> str:
    return dotted.rpartition(".")[2] if short else dotted


def _path(link: re.Match[str]) -> str:
    text, path = link.groups()
    name = path.rsplit("/", 1)[-1]
    return f"`{path}`" if text.strip("`") in (name, path) else f"{text} (`{path}`)"


def _settings(comment: re.Match[str]) -> str:
    # Settings import neither torch nor anything else that building the site does not have.
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))
    from burnish.schema import settings_of

    module, name = comment.groups()
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for setting in settings_of(getattr(importlib.import_module(module), name)):
        kind = " or ".join(f"`{choice}`" for choice in setting.choices) or _type(setting.type)
        kind += f", {setting.range}" if setting.range is not None else ""
        text = setting.help or ("see below" if kind == "section" else "")
        cells = (f"`{setting.name}`", kind, _default(setting.default), text)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _type(kind: Any) -> str:
    if dataclasses.is_dataclass(kind):
        return "section"
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    if typing.get_origin(kind) is tuple:
        return f"list of {_type(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) is dict:
        values = typing.get_args(kind)[1]
        return "sections by name" if dataclasses.is_dataclass(values) else "keys and values"
    return names.get(getattr(kind, "__name__", ""), str(kind))


def _default(value: Any) -> str:
    if value is dataclasses.MISSING or dataclasses.is_dataclass(value) or value in ("", ()):
        return ""
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
