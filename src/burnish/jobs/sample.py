"""The job of sampling: seeds to a file of images."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.files import card_path, check_target, provenance, write_json
from burnish.generators.base import Generator
from burnish.generators.load import load_generator
from burnish.jobs.options import SampleOptions
from burnish.jobs.plan import Plan, resolve_device
from burnish.jobs.progress import progress, span
from burnish.schema import read
from burnish.seeds import parse_seeds
from burnish.storage.formats import check_output, write_samples


@dataclass(frozen=True)
class SamplePlan(Plan):
    """One image per seed."""

    out: Path
    generator: str
    seeds: str
    num_images: int
    image_shape: tuple[int, int, int]
    num_steps: int
    nfe: int
    """Network evaluations per image."""
    label: int | None
    """The class of all images; None draws one for each seed."""
    batch_size: int
    """It changes no image."""
    device: str
    opened: Generator = field(repr=False, compare=False)

    def run(self) -> dict[str, Any]:
        """Sample, and write the images and their card."""
        began = time.perf_counter()
        seeds = parse_seeds(self.seeds)
        labels: Tensor | None = None
        if self.label is not None:
            labels = torch.full((len(seeds),), self.label)
        batches = self.opened.batches(seeds, labels, self.batch_size)
        write_samples(self.out, progress("sample", batches, len(seeds)), len(seeds))
        card = {
            "generator": self.opened.card,
            "num_images": len(seeds),
            "seeds": self.seeds,
            "num_steps": self.num_steps,
            "nfe": self.nfe,
            "seconds": time.perf_counter() - began,
            **provenance(),
        }
        write_json(card_path(self.out), card)
        return card


def plan_sample(
    generator: str | Path | Generator,
    seeds: str | Sequence[int],
    out: Path,
    **options: Any,
) -> SamplePlan:
    """Plan to sample a generator.

    Args:
        generator: A name or path, see :func:`burnish.load_generator`, or a loaded one.
        seeds: One image per seed: ``"0-999"``, ``"1,2,5-10"`` or the numbers.
        out: ``.npz``, ``.parquet``, or a folder of PNG without suffix.
        options: Fields of :class:`~burnish.jobs.options.SampleOptions`.

    Raises:
        InputError: Something is missing or does not fit together.
    """
    given = read(SampleOptions, options, "options")
    text = seeds if isinstance(seeds, str) else span(list(seeds))
    count = len(parse_seeds(text))
    check_output(out)
    check_target(card_path(out))
    name, device, label = str(generator), resolve_device(given.device), given.label
    if isinstance(generator, Generator):
        name = str(generator.card.get("name", "generator"))
    else:
        generator = load_generator(generator, given.num_steps, given.solver)
    generator = generator.to(device)
    if label is not None and not 0 <= label < (generator.num_classes or 0):
        raise InputError(
            f"label {label} is not one of this model's {generator.num_classes} classes"
        )
    return SamplePlan(
        out, name, text, count, generator.image_shape, generator.num_steps, generator.nfe,
        label, given.batch_size, device, generator,
    )  # fmt: skip
