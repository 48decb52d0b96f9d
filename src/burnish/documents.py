"""YAML and JSON that others wrote, read within bounds: plain values come out, or one clear line.

A text may be hostile: nested a thousand deep, a few lines whose aliases stand for billions of
values, a device that never ends. Whatever is bounded here needs no check where it is used.
"""

import json
import math
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from burnish.errors import InputError

MAX_BYTES = 2**20
MAX_DEPTH = 40
MAX_VALUES = 20_000
INT64 = range(-(2**63), 2**63)
_PLAIN = {f"tag:yaml.org,2002:{tag}" for tag in "str int float bool null map seq merge".split()}
# An escape sequence in a name would be obeyed by the terminal that shows it.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a file.

    Raises:
        InputError: It is missing, no regular file, too large, or not UTF-8.
    """
    if not path.is_file():
        if path.exists():
            raise InputError(f"{path} is not a file; check the path")
        raise InputError(f"there is no file {path}; check the path")
    with path.open("rb") as file:
        found = file.read(max_bytes + 1)
    if len(found) > max_bytes:
        raise InputError(f"{path} is too large; at most {max_bytes >> 10} KiB are read")
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8") from error


def load_json(path: Path, scale: int = 1) -> Any:
    """Return the values of a JSON file; raises :class:`InputError` as :func:`parse_json` does."""
    return parse_json(read_text(path, scale * MAX_BYTES), str(path), scale)


def parse_json(text: str, where: str, scale: int = 1) -> Any:
    """Return the values of a JSON text; ``where`` names it in messages.

    ``scale`` multiplies the bounds on size and number.

    Raises:
        InputError: It is not JSON, holds NaN or infinity, names a key twice, or exceeds the bounds
            of this module.
    """
    if len(text) > scale * MAX_BYTES:
        raise InputError(f"{where} is too large; at most {scale * MAX_BYTES >> 10} KiB are read")
    try:
        values = json.loads(text, object_pairs_hook=_checked)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {_line(error)}") from error
    _check(values, where, json_only=True, max_values=scale * MAX_VALUES)
    return values


def _checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    for name, value in pairs:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"it holds {json.dumps(value)} as {name!r}, NaN or infinite")
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is given twice")
    return found


def load_yaml(path: Path) -> Any:
    """Return the values of a YAML file: strings, numbers, truth values, lists and mappings.

    ``extends: FILE``, relative to the file that says it, takes over another file's keys. Keys
    given here replace the other's, one by one within sections; ``name`` is not taken over.

    Raises:
        InputError: The file is missing, is not YAML, names a key twice, exceeds the bounds of this
            module, or extends itself.
    """
    return _values(path, ())


def _values(path: Path, below: tuple[Path, ...]) -> Any:
    text = read_text(path)
    if path.resolve() in below:
        raise InputError(f"{path} extends itself, by way of {below[-1].name}")
    if len(below) > MAX_DEPTH:
        raise InputError(f"{path}: more than {MAX_DEPTH} files extend one another")
    try:
        values = yaml.load(text, _Loader) or {}  # _Loader is a stricter SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not YAML: {_line(error)}") from error
    _check(values, str(path))
    if not isinstance(values, dict) or "extends" not in values:
        return values
    other = values.pop("extends")
    if not isinstance(other, str):
        raise InputError(f"{path}: extends: expected the name of a file, not {other!r}")
    whole = _values(path.parent / other, (*below, path.resolve()))
    if not isinstance(whole, dict):
        raise InputError(f"{path.parent / other}: expected keys and values, not {whole!r}")
    return _merged({**whole, "name": ""}, values)


def _merged(under: Any, over: Any) -> Any:
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    return {**under, **{k: _merged(under[k], v) if k in under else v for k, v in over.items()}}


class _Loader(yaml.SafeLoader):
    """SafeLoader that builds plain values only, after their number and depth were counted."""

    depth = count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > MAX_DEPTH or self.count > MAX_VALUES:
            raise ValueError("it is nested too deep or holds too many values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _expanded(node, {})
        return self.construct_document(node)


def _expanded(node: Any, sizes: dict[int, int]) -> int:
    """Return how many values a node stands for, aliases included; refuse what is not plain."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ValueError("an alias stands for something that it lies in")
        return sizes[id(node)]
    sizes[id(node)] = 0
    if node.tag not in _PLAIN:
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        raise ValueError(f"{tag} in line {node.start_mark.line + 1}; put text in quotes")
    total = 1
    for part in _parts(node):
        total += _expanded(part, sizes)
        if total > MAX_VALUES:
            raise ValueError("its aliases stand for too many values")
    sizes[id(node)] = total
    return total


def _parts(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            line = f"in line {key.start_mark.line + 1}"
            if key.tag.rpartition(":")[2] not in ("str", "merge"):
                raise ValueError(f"a key {line} is not text; put it in quotes")
            if key.value in seen:
                raise ValueError(f"the key {key.value!r} {line} is given twice")
            seen.add(key.value)
            yield from (key, value)


def _check(values: Any, where: str, json_only: bool = False, max_values: int = MAX_VALUES) -> None:
    """Refuse values that are nested too deep, too many, too large, or unfit to be shown."""
    level, count = [values], 0
    for _ in range(MAX_DEPTH):
        below = []
        for value in level:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and value not in INT64:
                raise InputError(f"{where}: a number is beyond 64 bits")
            elif isinstance(value, float) and json_only and not math.isfinite(value):
                raise InputError(f"{where}: a number is NaN or infinite")
            elif isinstance(value, str) and CONTROL.search(value):
                raise InputError(f"{where}: the text {ascii(value)[:60]} holds control characters")
        level, count = below, count + len(below)
        if not level:
            return
        if count > max_values:
            break
    raise InputError(f"{where} is nested too deep or holds too many values")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
