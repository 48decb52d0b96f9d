"""Tables of measurements as described in YAML."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from burnish.documents import load_yaml
from burnish.errors import InputError
from burnish.refinement.settings import RefineSettings
from burnish.schema import Range, check, read
from burnish.seeds import parse_seeds


@dataclass(frozen=True)
class Baseline:
    """A cheap change to images, see :mod:`burnish.studies.baselines`."""

    name: Literal["none", "blur", "sharpen", "resample"] = "none"
    sigma: Annotated[float, Range(0)] = 0.5
    """Standard deviation of the Gaussian of blur and sharpen, in pixels."""
    amount: Annotated[float, Range(0)] = 0.5
    """Strength of sharpen."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Row:
    """A generator and what is done to its images: nothing, a refinement or a baseline."""

    generator: str = ""
    """Name, folder or file; a leading runs/ stands for the folder of trained models."""
    num_steps: int = 1
    guide: str = ""
    """Refines the images. With the baseline resample, it predicts their classes."""
    refine: dict[str, Any] = field(default_factory=dict)
    """preset, and the settings of refinement that differ from it."""
    labels: Literal["given", "pseudo", "balanced", "quotas"] = "given"
    baseline: Baseline | None = None
    sweep: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings of refinement and their values: one row for each combination."""
    published: str = ""
    """What a paper reports for a similar row, in words."""

    def __post_init__(self) -> None:
        if not self.generator:
            raise InputError("a row needs a generator")
        if (self.refine or self.sweep) and (self.baseline or not self.guide):
            raise InputError("refine and sweep need a guide, and no baseline")
        if self.baseline and (self.baseline.name == "resample") != bool(self.guide):
            raise InputError("the baseline resample needs a guide, and no other does")

    def unchanged(self) -> "Row":
        """Return the row of the same images as the generator made them."""
        return Row(self.generator, self.num_steps)


@dataclass(frozen=True)
class Table:
    """Rows to be read together."""

    title: str = ""
    note: str = ""
    rows: dict[str, Row] = field(default_factory=dict)


@dataclass(frozen=True)
class Tables:
    """All tables of one data set."""

    data: str = ""
    features: dict[str, str] = field(default_factory=dict)
    """Name -> shipped feature extractor, one of torch-fidelity, or a file."""
    reference: str = ""
    """The real images, in words; the file they are in is given when measuring."""
    seeds: tuple[str, ...] = ()
    """Ranges; means and standard deviations are over them."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Inside the guide while refining."""
    tables: dict[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("data", "features", "seeds", "tables"):
            if not getattr(self, name):
                raise InputError(f"{name} is missing")
        for seeds in self.seeds:
            parse_seeds(seeds)


def load_tables(path: Path) -> Tables:
    """Read tables from YAML."""
    tables = read(Tables, load_yaml(path), str(path))
    for name, table in tables.tables.items():
        expand(table.rows, f"{path}: {name}: ")
    return tables


def expand(rows: Mapping[str, Row], where: str = "") -> dict[str, Row]:
    """Return rows by name, with sweeps unrolled and settings converted to their types.

    A row of a sweep keeps its own values in ``sweep``, and its name ends in them. ``where`` begins
    messages of errors.
    """
    found: dict[str, Row] = {}
    for name, row in rows.items():
        for values in product(*row.sweep.values()):
            point = dict(zip(row.sweep, values, strict=True))
            refine = {**row.refine, **point}
            given = {key: value for key, value in refine.items() if key != "preset"}
            settings = read(RefineSettings, given, f"{where}{name}: refine")
            refine |= {key: getattr(settings, key) for key in given}
            label = name + "".join(f", {key} {value}" for key, value in point.items())
            if label in found:
                raise InputError(f"{where}two rows are called {label!r}")
            sweep = {key: (value,) for key, value in point.items()}
            found[label] = dataclasses.replace(row, refine=refine, sweep=sweep)
    return found
