"""Read experiments: YAML into the dataclasses of ``config``, with errors that lead to the key."""

import contextlib
import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from burnish.config import Experiment
from burnish.errors import InputError, unknown
from burnish.refine.settings import RefineSettings

__all__ = ["load_experiment", "read"]


def load_experiment(path: Path) -> Experiment:
    """Read an experiment from YAML.

    ``extends: FILE``, relative to the file that says it, takes over all of another experiment but
    its name; keys given here replace the other's, one by one within sections.

    Raises:
        InputError: The file is missing or is not YAML, or a key is unknown or of the wrong type;
            the message says where and suggests the nearest key.
    """
    experiment = read(Experiment, _values(path, ()), str(path))
    read(RefineSettings, experiment.joint.refine, f"{path}: joint: refine")
    for name in (experiment.name, *experiment.judges):
        if Path(name).name != name or name == "..":
            raise InputError(f"{path}: the name {name!r} must be a plain folder name")
    if not experiment.name:
        experiment = dataclasses.replace(experiment, name=path.stem)
    return experiment


def _values(path: Path, below: tuple[Path, ...]) -> Any:
    if not path.is_file():
        raise InputError(f"no experiment at {path}")
    if path.resolve() in below:
        raise InputError(f"{path} extends itself, by way of {below[-1].name}")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, ValueError) as error:  # the latter for text and dates
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
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


def read(kind: Any, value: Any, where: str) -> Any:
    """Turn plain YAML values into ``kind``: a dataclass, a container or a scalar type.

    Raises:
        InputError: A key is unknown or a value has another type; ``where`` leads to it.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected keys and values, not {value!r}")
        hints = typing.get_type_hints(kind)
        for key in value:
            if key not in hints:
                raise InputError(f"{where}: {unknown('key', str(key), hints)}")
        filled = {k: read(hints[k], v, f"{where}: {k}") for k, v in value.items()}
        try:
            return kind(**filled)  # pyright: ignore[reportCallIssue]
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    if origin is dict and isinstance(value, dict):
        return {str(k): read(arguments[1], v, f"{where}: {k}") for k, v in value.items()}
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(read(arguments[0], item, where) for item in value)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where}: {unknown('choice', str(value), map(str, arguments))}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return read(next(option for option in arguments if option is not type(None)), value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        # YAML takes 1e-3 for text, because it has no dot.
        with contextlib.suppress(ValueError):
            return float(value)
    if (
        isinstance(kind, type)
        and isinstance(value, kind)
        and not (kind is int and isinstance(value, bool))
    ):
        return value
    expected = {dict: "keys and values", tuple: "a list"}.get(
        origin, getattr(kind, "__name__", str(kind))
    )
    raise InputError(f"{where}: expected {expected}, not {value!r}")
