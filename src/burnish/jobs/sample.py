"""The job of sampling: seeds to a file of images."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.files import card_path, check_target, provenance, write_json
from burnish.generators.base import Generator
from burnish.generators.load import load_generator
from burnish.jobs.job import Job, Shard
from burnish.jobs.options import IN_PYTHON, JobOptions, SampleOptions
from burnish.jobs.parts import IMAGES, joined, ticked
from burnish.jobs.plan import Plan, Tick, resolve_device
from burnish.jobs.progress import span
from burnish.jobs.targets import check_out, checked, found_plan
from burnish.metrics.features import weights_sha256
from burnish.schema import read
from burnish.seeds import parse_seeds
from burnish.storage.formats import write_samples
from burnish.storage.own_labels import read_labels
from burnish.storage.remote import is_remote

BATCHES_PER_SHARD = 10


class Opened(NamedTuple):
    """What a plan stands for."""

    generator: Generator
    classes: Tensor | None
    """Of each image; None where each seed draws its own."""


@dataclass(frozen=True, kw_only=True)
class SamplePlan(Plan):
    """One image per seed."""

    kind: ClassVar[str] = "sample"

    generator: str
    generator_sha256: str
    seeds: str
    image_shape: tuple[int, int, int]
    num_steps: int
    solver: str | None
    nfe: int
    """Network evaluations per image."""
    flat: bool
    """Whether a folder is written without sub-folders."""
    label: int | None
    """The class of all images; None draws one for each seed, if there are no labels either."""
    labels: str
    """Balanced, or a file of classes; empty for none."""
    labels_sha256: str | None
    timesteps: tuple[int, ...] | None
    num_train_timesteps: int | None
    truncation: float | None
    precision: str
    family: str | None
    opened: Opened = field(repr=False, compare=False)

    def make(self, shards: Iterable[Shard], job: Job, tick: Tick) -> Iterator[Shard]:
        """Sample the seeds of each shard."""
        seeds, (generator, classes) = parse_seeds(self.seeds), self.opened
        for shard in shards:
            part = seeds[shard.start : shard.stop]
            labels = None if classes is None else classes[shard.start : shard.stop]
            with job.writing(shard) as (folder, _):
                batches = generator.batches(part, labels, self.batch_size)
                write_samples(folder / IMAGES, ticked(batches, tick), len(part))
            yield shard

    def finish(self, job: Job, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Write the images and their card."""
        write_samples(
            job.result / self.out.name, joined(self, job), self.num_images, flat=self.flat
        )
        source = self.generator
        card = {
            **self.for_card(),
            "generator": self.opened.generator.card,
            "generator_source": os.path.abspath(source) if os.path.exists(source) else source,
            "seconds": sum(record["seconds"] for record in records),
            "sha256": self.hashes(job.result),
            **provenance(),
        }
        write_json(card_path(job.result / self.out.name), card)
        return card


def plan_sample(
    generator: str | Path | Generator,
    seeds: str | Sequence[int],
    out: Path,
    *,
    job: JobOptions = IN_PYTHON,
    **options: Any,
) -> SamplePlan:
    """Plan to sample a generator.

    Args:
        generator: A name or path, see :func:`burnish.load_generator`, or a loaded one.
        seeds: One image per seed: ``"0-999"``, ``"1,2,5-10"`` or the numbers.
        out: ``.npz``, ``.parquet``, or a folder of PNG without suffix.
        job: Who does the work, and what it may replace.
        options: Fields of :class:`~burnish.jobs.options.SampleOptions`.

    Raises:
        InputError: Something is missing or does not fit together.
    """
    given = read(SampleOptions, options, "options")
    text = seeds if isinstance(seeds, str) else span(list(seeds))
    count = len(parse_seeds(text))
    check_out(out, flat=given.flat)
    if not is_remote(out):
        check_target(card_path(out))
    name, device, label = str(generator), resolve_device(given.device), given.label
    if isinstance(generator, Generator):
        name = str(generator.card.get("name", "generator"))
    else:
        generator = load_generator(
            generator, given.num_steps, given.solver, family=given.family,
            timesteps=given.timesteps, num_train_timesteps=given.num_train_timesteps,
            truncation=given.truncation, precision=given.precision,
        )  # fmt: skip
    generator = generator.to(device)
    classes = _classes(given, generator, count)
    size = (
        job.shard_size or found_plan(out, job).shard_size or BATCHES_PER_SHARD * given.batch_size
    )
    return checked(SamplePlan(
        out=out, generator=name, generator_sha256=weights_sha256(generator.network), seeds=text,
        num_images=count, image_shape=generator.image_shape, num_steps=generator.num_steps,
        flat=given.flat, solver=given.solver, nfe=generator.nfe, label=label,
        labels=given.labels, labels_sha256=_sha256(classes) if given.labels else None,
        timesteps=given.timesteps, num_train_timesteps=given.num_train_timesteps,
        truncation=given.truncation, precision=generator.precision, family=given.family,
        batch_size=given.batch_size,
        device=device, shard_size=size, job=job, opened=Opened(generator, classes),
        chosen=frozenset() if job.shard_size else frozenset({"shard_size"}),
    ))  # fmt: skip


def _classes(given: SampleOptions, generator: Generator, count: int) -> Tensor | None:
    """Return the class of each image, ``[count]`` int64; None where each seed draws its own.

    Raises:
        InputError: The generator does not know a class, or there is not one per image.
    """
    num_classes = generator.num_classes or 0
    if given.label is None and not given.labels:
        return None
    if given.labels and not num_classes:
        raise InputError("this generator has no classes; leave out --labels")
    if given.labels == "balanced":
        return torch.arange(count) % num_classes
    if given.label is not None:
        classes = torch.full((count,), given.label)
    else:
        classes = read_labels(given.labels, count)
    wrong = classes[(classes < 0) | (classes >= num_classes)]
    if len(wrong):
        raise InputError(
            f"label {int(wrong[0])} is not one of this model's {generator.num_classes} classes"
        )
    return classes


def _sha256(classes: Tensor | None) -> str | None:
    return classes if classes is None else hashlib.sha256(classes.numpy().tobytes()).hexdigest()
