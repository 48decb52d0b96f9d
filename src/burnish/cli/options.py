"""Command-line flags from dataclasses: names, types, ranges, defaults and help texts."""

import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from burnish.schema import Setting, settings_of

__all__ = ["DEVICE", "flags"]

Command = Callable[..., Any]

METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
DEVICE = click.option(
    "--device",
    default="auto",
    metavar="NAME",
    help="Where to compute: cpu, cuda, or auto for a GPU if there is one.",
)


def flags(kind: type, note: str = "") -> Callable[[Command], Command]:
    """Give a command one flag for each field of a dataclass.

    The command gets what the user has given, and nothing else, as keywords. What was not given
    keeps the dataclass's own default, and the dataclass checks the values.

    Args:
        kind: The dataclass.
        note: Said in place of the defaults, where something else decides them.
    """

    def decorate(command: Command) -> Command:
        for setting in reversed(settings_of(kind)):
            command = _option(setting, note)(command)
        return command

    return decorate


def given(kind: type, values: dict[str, Any]) -> Any:
    """Make a dataclass of the flags that were given."""
    names = [setting.name for setting in settings_of(kind)]
    return kind(**{name: values[name] for name in names if values.get(name) is not None})


def _option(setting: Setting, note: str) -> Callable[[Command], Command]:
    name = setting.name.replace("_", "-")
    text = " ".join(filter(None, [setting.help, _range(setting), _default(setting, note)]))
    if setting.type is bool:
        return click.option(f"--{name}/--no-{name}", setting.name, default=None, help=text)
    parse, metavar = _type(setting)
    return click.option(f"--{name}", setting.name, type=parse, metavar=metavar, help=text)


def _type(setting: Setting) -> tuple[Any, str]:
    if setting.choices:
        # Plain text: the dataclass's own error suggests the nearest choice.
        return str, "|".join(map(str, setting.choices))
    if typing.get_origin(setting.type) is tuple:
        item = typing.get_args(setting.type)[0]
        return _List(item), f"{METAVARS[item]},..."
    return setting.type, METAVARS.get(setting.type, "TEXT")


class _List(click.ParamType):
    """Values separated by commas."""

    def __init__(self, item: type) -> None:
        self.item, self.name = item, f"list of {item.__name__}"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.item(part) for part in value.split(",") if part)
        except ValueError:
            self.fail(f"{value!r} is not a {self.name}", param, ctx)


def _range(setting: Setting) -> str:
    return f"({setting.range})" if setting.range else ""


def _default(setting: Setting, note: str) -> str:
    value = setting.default
    if note or value is None or value is dataclasses.MISSING or value in ("", ()):
        return f"[default: {note}]" if note else ""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"[default: {value}]"
