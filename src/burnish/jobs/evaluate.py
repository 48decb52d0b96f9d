"""The job of scoring: a file of images against real ones, to numbers."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from burnish.errors import InputError
from burnish.files import cache_folder, check_target, provenance, read_json, write_json
from burnish.hub import shipped
from burnish.jobs.feature_cache import cached
from burnish.jobs.job import Job, Shard, cut
from burnish.jobs.options import IN_PYTHON, EvaluateOptions, JobOptions
from burnish.jobs.parts import ticked
from burnish.jobs.plan import Plan, Tick, job_path, resolve_device
from burnish.jobs.sides import (
    Side,
    check_reference,
    check_side,
    load_features,
    reference_sha256,
    save_features,
    side_of,
    split_rows,
)
from burnish.jobs.source import open_source, samples_sha256
from burnish.jobs.targets import checked, found_plan
from burnish.metrics.draws import kept
from burnish.metrics.evaluate import compare
from burnish.metrics.extraction import Extracted, extract, joined
from burnish.metrics.features import FeatureExtractor, load_extractor
from burnish.metrics.influence import influence_path, write_influences
from burnish.metrics.intervals import Estimate
from burnish.metrics.protocol import Protocol
from burnish.metrics.protocol import protocol as find_protocol
from burnish.metrics.reference import Reference, reference_of
from burnish.schema import read

REFERENCE, VALIDATION = "reference-", "validation-"
BATCHES_PER_SHARD = 4


class Opened(NamedTuple):
    """What a plan has opened; without ``validation``, that side is None."""

    sides: dict[str, Side | Reference | None]
    extractor: FeatureExtractor
    protocol: Protocol


@dataclass(frozen=True, kw_only=True)
class EvaluatePlan(Plan):
    """All metrics of a file of images."""

    kind: ClassVar[str] = "evaluate"
    mendable: ClassVar[bool] = False

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
    protocol: str
    num_neighbors: int
    seed: int
    tile: int | None
    """Side of the tiles, where the generated images are a grid of them."""
    padding: int
    save_reference: Path | None
    """Where to keep the statistics of real images."""
    validation: str
    """Other real images or their statistics, for the FDr; or nothing."""
    validation_sha256: str
    num_validation_images: int
    extrapolate: bool
    cache: bool
    """Whether features are kept for the next time, and taken from there."""
    opened: Opened = field(repr=False, compare=False)

    def shards(self) -> list[Shard]:
        """Return the shards of the generated images, and of the real ones that have to be read."""
        shards = cut(self.num_images, self.shard_size)
        counts = {REFERENCE: self.num_reference_images, VALIDATION: self.num_validation_images}
        for of, count in counts.items():
            shards += cut(count, self.shard_size, of, len(shards))
        return shards

    def make(self, shards: Iterable[Shard], job: Job, tick: Tick) -> Iterator[Shard]:
        """Extract the features of each shard."""
        spatial = self.opened.protocol.spatial
        extractor = cached(self.opened.extractor, spatial=spatial, wanted=self.cache)
        for shard in shards:
            side = self.opened.sides[shard.of]
            assert isinstance(side, Side)
            with job.writing(shard) as (folder, _):
                batches = ticked(side.read(shard.start, shard.stop), tick)
                save_features(folder, joined([*extract(batches, extractor, spatial=spatial)]))
            yield shard

    def finish(self, job: Job, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Compute the metrics; write them if the plan says so."""
        _, extractor, how = self.opened
        found = joined([*self._parts(job, "")], not how.stored_order)
        influences: dict[str, Estimate] = {}
        real = self._reference(job, REFERENCE, self.reference, how.max_features)
        assert real is not None
        scores = compare(
            found.features, found.probabilities, real, extractor, protocol=how,
            num_neighbors=self.num_neighbors, seed=self.seed, spatial=found.spatial,
            labels=found.labels, extrapolate=self.extrapolate, influences=influences,
            validation=self._reference(job, VALIDATION, self.validation, 0),
        )  # fmt: skip
        if self.save_reference:
            real.save(self.save_reference)
        result = {"generated": self.generated, **scores, **provenance(), "plan": self.compared()}
        if self.json:
            ids = found.ids[kept(how, len(found.ids), self.seed)]
            path = influence_path(job.result / self.out.name)
            write_influences(path, ids, influences, result["fingerprint"])
            write_json(job.result / self.out.name, result)
        return result

    def _parts(self, job: Job, of: str) -> Iterator[Extracted]:
        return (load_features(job.folder / one.name) for one in self.shards() if one.of == of)

    def _reference(
        self, job: Job, of: str, source: str, max_features: int | None
    ) -> Reference | None:
        sides, extractor, how = self.opened
        if not isinstance(side := sides[of], Side):
            return side
        return reference_of(
            ((one.features, one.spatial) for one in self._parts(job, of)), extractor,
            source=source, num_images=side.num_images, max_features=max_features, protocol=how,
        )  # fmt: skip

    def finished(self) -> dict[str, Any] | None:
        """Return the result if it is there and this plan has made it."""
        if not self.out.is_file():
            return None
        try:
            result = read_json(self.out)
        except InputError:
            return None
        if self.save_reference and not self.save_reference.exists():
            return None
        plan = result.get("plan")
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
        reference: The name of shipped statistics (``cifar10/plain``), a file of statistics of
            burnish or another tool, or real images; some of their rows as ``PATH[0-9999]``.
        features: A name or path of a feature extractor, or a loaded one; None for the one that
            made the shipped statistics, else that of the protocol.
        out: Where to write the result as JSON.
        job: Who does the work, and what it may replace.
        options: Fields of :class:`~burnish.jobs.options.EvaluateOptions`.

    Raises:
        InputError: Something is missing or does not fit together.
    """
    given = read(EvaluateOptions, options, "options")
    how = find_protocol(given.protocol)
    file, save_reference = open_source(generated, given, given.batch_size), given.save_reference
    check_reference(reference)
    if given.validation:
        check_reference(given.validation)
    inputs = [generated, Path(split_rows(reference)[0])]
    if save_reference:
        check_target(save_reference, *inputs)
        inputs.append(save_reference)
    for path in (out, influence_path(out)) if out else ():
        check_target(path, *inputs)
    for path, suffix in ((save_reference, ".npz"), (out, ".json")):
        if path and path.suffix != suffix:
            what = "results" if path == out else "statistics"
            raise InputError(f"{path}: {what} are kept as {suffix}; give such a name")
    if features is None:
        features = reference if reference in shipped("features") else how.extractor
    name, extractor = (features, None) if isinstance(features, str) else (features.name, features)
    extractor = extractor or load_extractor(name, resolve_device(given.device))
    side = Side(len(file), file.rows)
    dim = check_side(side, extractor, str(generated))
    quick = cached(extractor, spatial=False, wanted=given.cache)  # for the images of ADM's files
    real = side_of(reference, quick, given.batch_size)
    other = side_of(given.validation, quick, given.batch_size) if given.validation else None
    for known, what in ((real, reference), (other, given.validation)):
        dim = dim if known is None else check_side(known, quick, what, dim)
    sides = {"": side, REFERENCE: real, VALIDATION: other}
    counts = {of: side.num_images for of, side in sides.items() if isinstance(side, Side)}
    hashes = {
        "generated_sha256": samples_sha256(generated, file),
        "reference_sha256": reference_sha256(reference),
        "features_sha256": extractor.sha256,
        "validation_sha256": given.validation and reference_sha256(given.validation),
    }
    for one, said in (("reference", "those of the reference"), ("generated", "the generated")):
        if hashes["validation_sha256"] == hashes[f"{one}_sha256"]:
            raise InputError(
                f"the validation images are {said}; name other real images under --validation"
            )
    place = out or _cached({**hashes, "protocol": how.name})
    size = job.shard_size or found_plan(place, job).shard_size
    plan = checked(EvaluatePlan(
        out=place, json=out is not None, generated=str(generated), reference=reference,
        num_reference_images=counts.get(REFERENCE, 0),
        num_validation_images=counts.get(VALIDATION, 0),
        features=name, num_images=len(file),
        protocol=how.name, num_neighbors=given.num_neighbors or how.neighbors.num_neighbors,
        seed=how.seed if given.seed is None else given.seed,
        tile=given.tile, padding=given.padding, batch_size=given.batch_size,
        save_reference=save_reference, device=resolve_device(given.device),
        validation=given.validation, extrapolate=given.fid_infinity,
        cache=given.cache,
        shard_size=size or BATCHES_PER_SHARD * given.batch_size, job=job,
        chosen=frozenset() if job.shard_size else frozenset({"shard_size"}),
        opened=Opened(sides, extractor, how), **hashes,
    ))  # fmt: skip
    if save_reference and plan.finished() is None and not job_path(place).exists():
        check_target(save_reference, force=job.force)  # not what a killed job has written
    return plan


def _cached(hashes: dict[str, str]) -> Path:
    """Return where a job is kept that writes no file."""
    name = hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest()[:16]
    return cache_folder() / "jobs" / f"evaluate-{name}"
