"""Fits pages that are also read elsewhere to the documentation site; mkdocs calls it for each page.

Some pages are generated from measurements, and some link to files of the repository that are not
part of the site. They stay as they are; only what the site shows is changed.
"""

import re

__all__ = ["on_page_markdown"]

# A link from docs/ to a file beside it, e.g. [name](../results/name.json).
OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((?:\.\./)+(?!\.\.)((?:%s)[^)\s]*)\)" % "|".join(
    ["benchmarks/", "examples/", "experiments/", "results/", "src/", "tests/", "README", "LICENSE",
     "CHANGELOG", "CONTRIBUTING", "CITATION"]
))  # fmt: skip


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page's Markdown as the site needs it.

    Links to files outside ``docs/`` become their paths, and Markdown inside ``<details>`` is
    rendered.
    """
    markdown = OUTSIDE.sub(_path, markdown)
    return markdown.replace("<details>", '<details markdown="1">')


def _path(link: re.Match[str]) -> str:
    text, path = link.groups()
    name = path.rsplit("/", 1)[-1]
    return f"`{path}`" if text.strip("`") in (name, path) else f"{text} (`{path}`)"
