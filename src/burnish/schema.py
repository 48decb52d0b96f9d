"""Settings as frozen dataclasses: how plain values become them, and what flags are made of.

A field states its type, default, range (``Annotated[int, Range(0)]``) and, below it, its help.
"""

import ast
import contextlib
import dataclasses
import functools
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from burnish.documents import INT64
from burnish.errors import InputError, shown, unknown

MAX_LENGTH = 100  # of a list among the arguments of a function
_KINDS: Mapping[Any, Any] = {int: int, float: (int, float), str: str, bool: bool}
_SAID: Mapping[Any, str] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path",
    dict: "keys and values", tuple: "a list", Sequence: "a list",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Range:
    """Which numbers a setting may have; ``above`` and ``below`` exclude the limits themselves."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    finite: bool = True

    def __str__(self) -> str:
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'above' if self.above else 'at least'} {self.low:g}")
        if self.high < math.inf:
            parts.append(f"{'below' if self.below else 'at most'} {self.high:g}")
        return " and ".join(parts) or "a finite number"

    def __contains__(self, value: float) -> bool:
        if value != value or (self.finite and math.isinf(value)):
            return False
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a dataclass, as a reader or a command line needs it."""

    name: str
    type: Any
    """Without its annotations and without ``None``."""
    optional: bool
    """Whether it may be ``None``."""
    choices: tuple[Any, ...]
    """The values of a ``Literal``; empty for any other type."""
    range: Range | None
    default: Any
    help: str


@functools.cache
def settings_of(kind: type) -> tuple[Setting, ...]:
    """Return the fields of a dataclass with their ranges, choices and help texts."""
    hints, helps = typing.get_type_hints(kind, include_extras=True), _help_texts(kind)
    return tuple(_setting(field, hints[field.name], helps) for field in dataclasses.fields(kind))


def _setting(field: Any, hint: Any, helps: dict[str, str]) -> Setting:
    annotated = typing.get_origin(hint) is Annotated
    inner, optional = _without_none(typing.get_args(hint)[0] if annotated else hint)
    items = typing.get_args(inner)
    of = items[0] if items[1:] == (...,) else hint  # of tuple[T, ...], the range of its items
    span = next((one for one in typing.get_args(of)[1:] if isinstance(one, Range)), None)
    choices = typing.get_args(inner) if typing.get_origin(inner) is Literal else ()
    return Setting(
        field.name, inner, optional, choices, span, field.default, helps.get(field.name, "")
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint, False
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    return options[0], len(options) < len(typing.get_args(hint))


def _help_texts(kind: type) -> dict[str, str]:
    """Return the strings below the fields of a dataclass and of those it extends."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        body = typing.cast(ast.ClassDef, tree.body[0]).body
        for line, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr):
                text = getattr(after.value, "value", "")
                found[typing.cast(ast.Name, line.target).id] = " ".join(str(text).split())
    return found


def check(config: Any) -> None:
    """Refuse values out of their ranges or choices; for a dataclass's ``__post_init__``.

    Raises:
        InputError: The message names the setting.
    """
    for setting in settings_of(type(config)):
        value = getattr(config, setting.name)
        if value is None and setting.optional:
            continue
        kinds = _KINDS.get(setting.type, object)
        fits = isinstance(value, kinds) or (kinds is str and callable(value))  # or its name
        if not fits or (isinstance(value, bool) and kinds in (int, (int, float))):
            raise InputError(f"{setting.name} must be {_SAID[setting.type]}, not {shown(value)}")
        if isinstance(value, int) and value not in INT64:
            raise InputError(f"{setting.name} must fit into 64 bits")
        if setting.choices and value not in setting.choices:
            raise unknown(setting.name, str(value), map(str, setting.choices))
        span = setting.range or (Range() if setting.type is float else None)
        items: Any = value if isinstance(value, tuple) else (value,)
        if span and not all(item in span for item in items):
            raise InputError(f"{setting.name} must be {span}, not {shown(value)}")


def read(kind: Any, value: Any, where: str) -> Any:
    """Turn plain YAML or JSON values into ``kind``: a dataclass, a container or a scalar type.

    A dataclass that says ``open = True`` leaves out keys that it has no field for.

    Raises:
        InputError: A key is unknown or a value has another type; ``where`` leads to it.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        found = read(arguments[0], value, where)
        spans = [extra for extra in arguments[1:] if isinstance(extra, Range)]
        if found is not None and any(found not in span for span in spans):
            raise InputError(f"{where} must be {spans[0]}, not {shown(value)}")
        return found
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(typing.cast(type, kind), value, where)
    if origin is dict and isinstance(value, dict):
        return {str(k): read(arguments[1], v, f"{where}: {k}") for k, v in value.items()}
    if origin in (tuple, Sequence) and isinstance(value, list | tuple):
        alike = origin is Sequence or arguments[-1] is ...
        kinds = arguments[:1] * len(value) if alike else arguments
        if len(kinds) != len(value):
            raise InputError(f"{where}: expected {len(kinds)} values, not {shown(value)}")
        return tuple(read(one, item, where) for one, item in zip(kinds, value, strict=True))
    if origin is Literal:
        if not any(value == one and type(value) is type(one) for one in arguments):
            raise InputError(f"{where}: {unknown('choice', str(value), map(str, arguments))}")
        return value
    inner, optional = _without_none(kind)
    if inner is not kind:
        return None if value is None and optional else read(inner, value, where)
    return _read_scalar(kind, value, where)


def read_arguments(
    function: Callable[..., Any], values: dict[str, Any], where: str
) -> dict[str, Any]:
    """Turn plain values into the keyword arguments of a function, by its annotations.

    Raises:
        InputError: An argument is unknown, or its value has another type or is out of range.
    """
    known = inspect.signature(function).parameters
    target = function.__init__ if isinstance(function, type) else function
    hints = typing.get_type_hints(target, include_extras=True)
    for name, value in values.items():
        if name not in known:
            raise unknown(f"argument of {where}", str(name), known)
        if isinstance(value, list | tuple) and len(value) > MAX_LENGTH:
            raise InputError(f"{where}: {name} has {len(value)} values; at most {MAX_LENGTH}")
    return {name: read(hints[name], value, f"{where}: {name}") for name, value in values.items()}


def _read_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected keys and values, not {shown(value)}")
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in value:
        if key not in hints and not getattr(kind, "open", False):
            raise InputError(f"{where}: {unknown('key', str(key), hints)}")
    filled = {k: read(hints[k], v, f"{where}: {k}") for k, v in value.items() if k in hints}
    lacking = [
        one.name for one in dataclasses.fields(kind)
        if one.name not in filled and one.default is one.default_factory is dataclasses.MISSING
    ]  # fmt: skip
    if lacking:
        raise InputError(f"{where} lacks {', '.join(lacking)}; add it, or name another file")
    try:
        found = kind(**filled)
        check(found)
        return found
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _read_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and not isinstance(value, bool):
        # YAML takes 1e-3 for text, because it has no dot.
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            if not math.isnan(found := float(value)):
                return found
    if kind is Path and isinstance(value, str):
        return Path(value)
    right = isinstance(kind, type) and isinstance(value, kind) and value == value  # NaN is not
    if right and not (kind is int and (isinstance(value, bool) or value not in INT64)):
        return value
    expected = _SAID.get(typing.get_origin(kind) or kind, "something else")
    raise InputError(f"{where}: expected {expected}, not {shown(value)}")


def plain(config: Any) -> Any:
    """Return a dataclass as strict JSON values: tuples become lists, infinity ``"inf"``."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {
            setting.name: plain(getattr(config, setting.name))
            for setting in dataclasses.fields(config)
        }
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain(value) for value in config]
    if isinstance(config, Path):
        return str(config)
    if callable(config):
        return getattr(config, "__qualname__", type(config).__name__)
    return str(config) if isinstance(config, float) and not math.isfinite(config) else config
