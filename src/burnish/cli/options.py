"""Command-line flags; most come from dataclasses, with types, ranges, defaults and help texts."""

import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from burnish.jobs.options import JobOptions
from burnish.schema import Setting, settings_of

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
SPELLED = {"family": "as"}  # which Python has as a keyword
METAVARS = {bool: "BOOL", int: "INT", float: "FLOAT", str: "NAME", Path: "PATH"}


def flag(name: str, default: Any, text: str, **options: Any) -> Decorator:
    """Give a command one flag of its own; a default that is a type makes it a flag without one."""
    kind = default if isinstance(default, type) else type(default)
    kind = Path if issubclass(kind, Path) else kind
    if not isinstance(default, type):
        options |= {"default": default, "show_default": default != ""}
    options = {"metavar": METAVARS[kind], **options}
    return click.option(name, *options.pop("names", ()), type=kind, help=text, **options)


def flags(kind: type, note: str = "") -> Decorator:
    """Give a command one flag for each field of a dataclass.

    The command gets what the user has given, and None for the rest: what was not given keeps the
    dataclass's own default. The dataclass checks the values.

    Args:
        kind: The dataclass.
        note: Said in place of the defaults, where something else decides them.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed(settings_of(kind)):
            command = _option(setting, note)(command)
        return command

    return decorate


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that the user has given."""
    return {name: value for name, value in options.items() if value is not None}


def job_of(options: dict[str, Any]) -> JobOptions:
    """Take the fields of :class:`JobOptions` out of the flags, and return them."""
    names = [setting.name for setting in settings_of(JobOptions)]
    return JobOptions(**given({name: options.pop(name) for name in names}))


DEVICE = flag(
    "--device", "auto", "Where to compute: cpu, cuda, or auto for a GPU if there is one."
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be done and stop.")
FORCE = click.option("--force", is_flag=True, help="Replace outputs that exist already.")


def _option(setting: Setting, note: str) -> Decorator:
    name, default = SPELLED.get(setting.name, setting.name.replace("_", "-")), setting.default
    if note or default is None or default is dataclasses.MISSING or default in ("", ()):
        default = note
    elif isinstance(default, tuple):
        default = ",".join(map(str, default))
    parts = [
        setting.help,
        f"({setting.range})" if setting.range else "",
        f"[default: {default}]" if default != "" else "",
    ]
    text = " ".join(filter(None, parts))
    if setting.type is bool:
        return click.option(f"--{name}/--no-{name}", setting.name, default=None, help=text)
    parse, metavar = setting.type, METAVARS.get(setting.type, "")
    if setting.choices:
        # Plain text: the dataclass's own error suggests the nearest choice.
        parse, metavar = str, "|".join(map(str, setting.choices))
    elif typing.get_origin(parse) is tuple:
        item = typing.get_args(parse)[0]
        parse, metavar = _List(item), f"{METAVARS[item]},..."
    return click.option(f"--{name}", setting.name, type=parse, metavar=metavar, help=text)


class _List(click.ParamType):
    """Values separated by commas."""

    def __init__(self, item: type) -> None:
        self.item, self.name = item, f"list of {item.__name__}"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        item = click.BOOL if self.item is bool else self.item
        try:
            return tuple(item(part) for part in value.split(",") if part)
        except ValueError:
            self.fail(f"{value!r} is not a {self.name}", param, ctx)
