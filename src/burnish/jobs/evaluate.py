"""The job of scoring: a file of images against real ones, to numbers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from burnish.errors import InputError, unknown
from burnish.files import check_target, provenance, write_json
from burnish.hub import shipped
from burnish.jobs.options import EvaluateOptions
from burnish.jobs.plan import Plan, resolve_device
from burnish.jobs.progress import progress
from burnish.metrics.evaluate import evaluate
from burnish.metrics.features import FeatureExtractor, load_extractor
from burnish.metrics.reference import Reference, make_reference
from burnish.samples import Samples, to_uint8
from burnish.schema import read
from burnish.storage.datasets import load_dataset
from burnish.storage.formats import open_samples
from burnish.storage.sample_file import SampleFile

DEFAULT_FEATURES = "inception-v3-compat"
ROWS = re.compile(r"(.+)\[(\d+-\d+)\]")


def split_rows(source: str) -> tuple[str, str]:
    """Return the path, or name, and the rows of ``PATH[0-9999]``; no rows where none are named."""
    rows = ROWS.fullmatch(source)
    return (rows[1], rows[2]) if rows else (source, "")


class Opened(NamedTuple):
    """What a plan has opened."""

    file: SampleFile
    extractor: FeatureExtractor


@dataclass(frozen=True)
class EvaluatePlan(Plan):
    """All metrics of a file of images."""

    out: Path | None
    """The JSON; None for none."""
    generated: str
    reference: str
    features: str
    num_images: int
    num_neighbors: int
    batch_size: int
    save_reference: Path | None
    """Where to keep the statistics of real images."""
    opened: Opened = field(repr=False, compare=False)

    def run(self) -> dict[str, Any]:
        """Compute the metrics; write them if the plan says where."""
        file, extractor = self.opened
        real = load_reference(self.reference, extractor, self.batch_size)
        if self.save_reference:
            real.save(self.save_reference)
        found = evaluate(
            progress("evaluate", file, len(file)), real, extractor,
            num_neighbors=self.num_neighbors,
        )  # fmt: skip
        result = {"generated": self.generated, **found, **provenance()}
        if self.out:
            write_json(self.out, result)
        return result


def plan_evaluate(
    generated: Path,
    reference: str,
    features: str | FeatureExtractor | None = None,
    *,
    out: Path | None = None,
    **options: Any,
) -> EvaluatePlan:
    """Plan to score a file of images.

    Args:
        generated: ``.npz``, ``.parquet`` or a folder of images.
        reference: The name of shipped statistics (``cifar10/plain``), an ``.npz`` with ``mu`` and
            ``sigma``, or real images; some of their rows as ``PATH[0-9999]``.
        features: A name or path of a feature extractor, or a loaded one; None for the one that
            made the shipped statistics, else Inception.
        out: Where to write the result as JSON.
        options: Fields of :class:`~burnish.jobs.options.EvaluateOptions`.

    Raises:
        InputError: Something is missing or does not fit together.
    """
    given = read(EvaluateOptions, options, "options")
    file, save_reference = open_samples(generated, given.batch_size), given.save_reference
    rows = ROWS.fullmatch(reference)
    real_path = Path(rows[1] if rows else reference)
    if reference not in shipped("reference") and not real_path.exists():
        if real_path.suffix:
            raise InputError(f"no such reference: there is no {real_path}")
        if not rows:
            raise unknown("reference", reference, [*shipped("reference"), "PATH"])
    if save_reference:
        check_target(save_reference, generated, real_path)
        if save_reference.suffix != ".npz":
            raise InputError(f"{save_reference}: statistics are kept as .npz")
    if out:
        check_target(out, generated, real_path, *([save_reference] if save_reference else []))
    if features is None:
        features = reference if reference in shipped("features") else DEFAULT_FEATURES
    if isinstance(features, str):
        features = load_extractor(features, resolve_device(given.device))
    extractor = features
    try:
        extractor(to_uint8(next(iter(file)).images[:1]))
    except RuntimeError as error:
        shape = list(file.image_shape)
        raise InputError(f"{extractor.name} does not take images of shape {shape}") from error
    return EvaluatePlan(
        out, str(generated), reference, extractor.name, len(file), given.num_neighbors,
        given.batch_size, save_reference, Opened(file, extractor),
    )  # fmt: skip


def load_reference(name: str, extractor: FeatureExtractor, batch_size: int = 250) -> Reference:
    """Return the reference of a name or path; that of real images is made now.

    Some rows of a labeled set are meant by ``NAME_OR_PATH[first-last]``, e.g. ``digits[0-99]``.

    Raises:
        InputError: It does not exist, or was made with another extractor.
    """
    known = shipped("reference")
    if name in known or _holds_statistics(Path(name)):
        return Reference.load(known.get(name, Path(name)), extractor=extractor)
    batches: Iterator[Samples]
    if rows := ROWS.fullmatch(name):
        data = load_dataset(rows[1], rows[2])
        count = len(data)
        starts = range(0, count, batch_size)
        batches = (data.samples(slice(start, start + batch_size)) for start in starts)
    else:
        file = open_samples(name, batch_size)
        count, batches = len(file), iter(file)
    shown = progress("reference", batches, count)
    return make_reference(shown, extractor, source=name, num_images=count)


def _holds_statistics(path: Path) -> bool:
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with ZipFile(path) as archive:
            return "mu.npy" in archive.namelist()
    except BadZipFile:
        return False
