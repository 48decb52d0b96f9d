"""How tables are described.

A row is a generator, and what is done to its images: nothing, a refinement or a control.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml

from burnish.errors import InputError
from burnish.refine.settings import RefineSettings
from burnish.schema import read
from burnish.seeds import parse_seeds
from burnish.studies.baselines import Control

__all__ = ["Row", "Table", "Tables", "expand", "load_tables"]


@dataclass(frozen=True)
class Row:
    """A generator, and what is done to its images."""

    generator: str = ""
    """Name, folder or file; a leading runs/ is where trained models are."""
    num_steps: int = 1
    """Sampling steps."""
    guide: str = ""
    """Refines the images; with the control resample, it predicts their classes."""
    refine: dict[str, Any] = field(default_factory=dict)
    """preset, and the settings of refinement that differ from it."""
    labels: Literal["given", "pseudo", "balanced", "quotas"] = "given"
    """The classes to refine towards."""
    control: Control | None = None
    """Done in place of a refinement."""
    sweep: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings of refinement and their values: one row for each combination."""
    published: str = ""
    """What a paper reports for the like, in words."""

    def __post_init__(self) -> None:
        if not self.generator:
            raise InputError("a row needs a generator")
        if (self.refine or self.sweep) and (self.control or not self.guide):
            raise InputError("refine and sweep need a guide, and no control")
        if self.control and (self.control.name == "resample") != bool(self.guide):
            raise InputError("the control resample needs a guide, and no other does")

    def base(self) -> "Row":
        """Return the row of the same images as they are."""
        return Row(self.generator, self.num_steps)


@dataclass(frozen=True)
class Table:
    """Rows to be read together."""

    title: str = ""
    note: str = ""
    """What to know when reading it."""
    rows: dict[str, Row] = field(default_factory=dict)


@dataclass(frozen=True)
class Tables:
    """All tables of one data set."""

    data: str = ""
    judges: dict[str, str] = field(default_factory=dict)
    """Name -> shipped judge, extractor of torch-fidelity or file."""
    reference: str = ""
    """The real images, in words; the file they are in is given when measuring."""
    seeds: tuple[str, ...] = ()
    """Ranges; means and spreads are over them."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Inside the guide while refining."""
    tables: dict[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("data", "judges", "seeds", "tables"):
            if not getattr(self, name):
                raise InputError(f"{name} is missing")
        for span in self.seeds:
            parse_seeds(span)


def load_tables(path: Path) -> Tables:
    """Read tables from YAML.

    Raises:
        InputError: The file is missing or not YAML, or a key or value in it is wrong.
    """
    if not path.is_file():
        raise InputError(f"no tables at {path}")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    tables = read(Tables, values, str(path))
    for name, table in tables.tables.items():
        expand(table.rows, f"{path}: {name}: ")
    return tables


def expand(rows: Mapping[str, Row], where: str = "") -> dict[str, Row]:
    """Return rows by name with sweeps unrolled and settings read as their types.

    A row out of a sweep keeps its own values in ``sweep``, and ends its name in them.

    Raises:
        InputError: A setting of refinement is unknown or of a wrong type, or two rows have one
            name.
    """
    found: dict[str, Row] = {}
    for name, row in rows.items():
        for values in product(*row.sweep.values()):
            point = dict(zip(row.sweep, values, strict=True))
            given = {**row.refine, **point}
            preset = {"preset": given.pop("preset")} if "preset" in given else {}
            settings = read(RefineSettings, given, f"{where}{name}: refine")
            refine = {**preset, **{key: getattr(settings, key) for key in given}}
            label = name + "".join(f", {key} {value}" for key, value in point.items())
            if label in found:
                raise InputError(f"{where}two rows are called {label!r}")
            sweep = {key: (value,) for key, value in point.items()}
            found[label] = dataclasses.replace(row, refine=refine, sweep=sweep)
    return found
