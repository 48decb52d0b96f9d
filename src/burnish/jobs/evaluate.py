"""The job of scoring: a file of images against real ones, to numbers."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from burnish.errors import InputError
from burnish.files import (
    cache_folder,
    check_target,
    provenance,
    read_json,
    write_json,
)
from burnish.hub import shipped
from burnish.jobs.job import Job, Shard, cut
from burnish.jobs.options import IN_PYTHON, EvaluateOptions, JobOptions
from burnish.jobs.parts import ticked
from burnish.jobs.plan import Plan, Tick, job_path, resolve_device
from burnish.jobs.sides import (
    Side,
    check_reference,
    images_of,
    known_reference,
    reference_sha256,
    split_rows,
)
from burnish.jobs.source import open_source, samples_sha256
from burnish.jobs.targets import checked, found_plan
from burnish.metrics.evaluate import compare
from burnish.metrics.features import FeatureExtractor, load_extractor
from burnish.metrics.reference import Reference, extract, reference_of
from burnish.samples import to_uint8
from burnish.schema import read

DEFAULT_FEATURES = "inception-v3-compat"
FEATURES, REFERENCE = "features.npz", "reference-"
BATCHES_PER_SHARD = 4


class Opened(NamedTuple):
    """What a plan has opened."""

    generated: Side
    reference: Side | Reference
    extractor: FeatureExtractor


@dataclass(frozen=True, kw_only=True)
class EvaluatePlan(Plan):
    """All metrics of a file of images."""

    kind: ClassVar[str] = "evaluate"

    out: Path
    """The JSON; where none is asked for, a place in the cache that stays empty."""
    json: bool
    """Whether the result is written."""
    generated: str
    generated_sha256: str
    reference: str
    reference_sha256: str
    num_reference_images: int
    """To extract features of; 0 where the reference holds features."""
    features: str
    features_sha256: str
    num_neighbors: int
    tile: int | None
    """Side of the tiles, where the generated images are a grid of them."""
    padding: int
    save_reference: Path | None
    """Where to keep the statistics of real images."""
    opened: Opened = field(repr=False, compare=False)

    def shards(self) -> list[Shard]:
        """Return the shards of the generated images, and of the real ones that have to be read."""
        generated = cut(self.num_images, self.shard_size)
        real = cut(self.num_reference_images, self.shard_size, REFERENCE, len(generated))
        return [*generated, *real]

    def make(self, shards: Iterable[Shard], job: Job, tick: Tick) -> Iterator[Shard]:
        """Extract the features of each shard."""
        for shard in shards:
            side = self.opened.reference if shard.of else self.opened.generated
            assert isinstance(side, Side)
            with job.writing(shard) as (folder, _):
                batches = ticked(side.read(shard.start, shard.stop), tick)
                parts = list(extract(batches, self.opened.extractor))
                found = {"ids": np.concatenate([part.ids for part in parts])}
                found["features"] = np.concatenate([part.features for part in parts])
                if parts[0].probabilities is not None:
                    classes = [part.probabilities for part in parts]
                    found["probabilities"] = np.concatenate(classes)  # pyright: ignore
                np.savez(folder / FEATURES, **found)  # pyright: ignore[reportArgumentType]
            yield shard

    def finish(self, job: Job, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Compute the metrics; write them if the plan says so."""
        _, real, extractor = self.opened
        parts = [(shard.of, job.folder / shard.name / FEATURES) for shard in self.shards()]
        if isinstance(real, Side):
            features = (_load(path)["features"] for of, path in parts if of)
            source, count = self.reference, self.num_reference_images
            real = reference_of(features, extractor, source=source, num_images=count)
        if self.save_reference:
            real.save(self.save_reference)
        found = [_load(path) for of, path in parts if not of]
        order = np.argsort(np.concatenate([one["ids"] for one in found]), kind="stable")
        rows = np.concatenate([one["features"] for one in found])[order]
        classes = None
        if "probabilities" in found[0]:
            classes = np.concatenate([one["probabilities"] for one in found])[order]
        scores = compare(rows, classes, real, extractor, num_neighbors=self.num_neighbors)
        result = {"generated": self.generated, **scores, **provenance(), "plan": self.compared()}
        if self.json:
            write_json(job.result / self.out.name, result)
        return result

    def finished(self) -> dict[str, Any] | None:
        """Return the result if it is there and this plan has made it."""
        if not self.out.is_file():
            return None
        try:
            result = read_json(self.out)
        except InputError:
            return None
        plan = result.get("plan")
        if self.save_reference and not self.save_reference.exists():
            return None
        return result if isinstance(plan, dict) and not self.differs(plan) else None


def plan_evaluate(
    generated: Path,
    reference: str,
    features: str | FeatureExtractor | None = None,
    *,
    out: Path | None = None,
    job: JobOptions = IN_PYTHON,
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
        job: Who does the work, and what it may replace.
        options: Fields of :class:`~burnish.jobs.options.EvaluateOptions`.

    Raises:
        InputError: Something is missing or does not fit together.
    """
    given = read(EvaluateOptions, options, "options")
    file, save_reference = open_source(generated, given, given.batch_size), given.save_reference
    check_reference(reference)
    real_path = Path(split_rows(reference)[0])
    if save_reference:
        check_target(save_reference, generated, real_path)
        if save_reference.suffix != ".npz":
            raise InputError(f"{save_reference}: statistics are kept as .npz")
    if out:
        check_target(out, generated, real_path, *([save_reference] if save_reference else []))
    if features is None:
        features = reference if reference in shipped("features") else DEFAULT_FEATURES
    name = features if isinstance(features, str) else features.name
    if isinstance(features, str):
        features = load_extractor(features, resolve_device(given.device))
    extractor = features
    try:
        first = extractor(to_uint8(next(iter(file)).images[:1]))
    except RuntimeError as error:
        shape = list(file.image_shape)
        raise InputError(f"{extractor.name} does not take images of shape {shape}") from error
    real = known_reference(reference, extractor) or images_of(reference, given.batch_size)
    if isinstance(real, Reference):
        real.check_size(first.features.shape[1], extractor.name)
    count = real.num_images if isinstance(real, Side) else 0
    hashes = {
        "generated_sha256": samples_sha256(generated, file),
        "reference_sha256": reference_sha256(reference),
        "features_sha256": extractor.sha256,
    }
    place = out or _cached(hashes)
    size = job.shard_size or found_plan(place, job).shard_size
    plan = checked(EvaluatePlan(
        out=place, json=out is not None, generated=str(generated), reference=reference,
        num_reference_images=count, features=name, num_images=len(file),
        num_neighbors=given.num_neighbors, tile=given.tile, padding=given.padding,
        batch_size=given.batch_size,
        save_reference=save_reference, device=resolve_device(given.device),
        shard_size=size or BATCHES_PER_SHARD * given.batch_size, job=job,
        chosen=frozenset() if job.shard_size else frozenset({"shard_size"}),
        opened=Opened(Side(len(file), file.rows), real, extractor), **hashes,
    ))  # fmt: skip
    if save_reference and plan.finished() is None and not job_path(place).exists():
        check_target(save_reference, force=job.force)  # not what a killed job has written
    return plan


def _cached(hashes: dict[str, str]) -> Path:
    """Return where a job is kept that writes no file."""
    name = hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest()[:16]
    return cache_folder() / "jobs" / f"evaluate-{name}"


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
