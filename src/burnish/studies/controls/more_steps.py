"""More sampling steps as a control: the same seeds sampled longer, and what that costs."""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch

from burnish.errors import InputError
from burnish.files import card_path, read_json
from burnish.generators.base import Generator
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.hub import shipped
from burnish.jobs.progress import progress
from burnish.jobs.refine import plan_refine
from burnish.jobs.sides import split_rows
from burnish.metrics.features import weights_sha256
from burnish.refinement.learned import guide_sha256
from burnish.refinement.settings import RefineSettings
from burnish.samples import to_uint8
from burnish.schema import Range, read
from burnish.storage.formats import write_samples
from burnish.studies.dose.drawn import Drawn

# Images that the time of refining, and that of the steps as they were, is measured on.
TIMED = 200
MAX_LEVELS = 3.0


@dataclass(frozen=True)
class SampleCard:
    """What the card of sampled images says of the sampling."""

    open = True
    num_steps: Annotated[int, Range(1)]
    generator_sha256: str
    sha256: dict[str, str]
    generator_source: str = ""
    solver: str | None = None
    timesteps: tuple[int, ...] | None = None
    num_train_timesteps: int | None = None
    truncation: float | None = None
    precision: str = "float32"
    family: str | None = None


@dataclass(frozen=True)
class RefinedCard:
    """What the card of refined images says of the refinement."""

    open = True
    guide_sha256: str
    settings: RefineSettings
    refiner: str | None = None


class MoreSteps:
    """The control; making it reads both cards and opens the generator.

    Args:
        baseline: Where the baseline images are.
        refined: Where the refined images are.
        num_steps: Sampling steps in place of those of the baseline images.
        guide: The one that refined; what refining costs is measured.
        device: Where to compute.

    Raises:
        InputError: A card lacks something, or the generator is not to be had.
    """

    def __init__(
        self, baseline: str, refined: str, num_steps: int, guide: str | None, device: str
    ) -> None:
        if guide is None:
            raise InputError("--more-steps needs the --guide that refined, to measure its time")
        self._guide, self._device = guide, device
        self._card: SampleCard = _card(SampleCard, baseline, "burnish sample")
        self._refined: RefinedCard = _card(RefinedCard, refined, "burnish refine")
        if self._card.timesteps is not None:
            raise InputError(f"{baseline} has timesteps of its own; sample more of them by hand")
        if num_steps <= self._card.num_steps:
            raise InputError(f"--more-steps: the images have {self._card.num_steps} steps already")
        self.num_steps, self._first = num_steps, self._load(self._card.num_steps)
        self._longer = self._load(num_steps)
        if guide_sha256(load_guide(guide)) != self._refined.guide_sha256:
            raise InputError(f"--more-steps: {refined} was not refined with {guide}")

    def _load(self, num_steps: int) -> Generator:
        card = self._card
        for source in filter(None, (card.generator_source, *shipped("generator"))):
            try:
                found = load_generator(
                    source, num_steps, card.solver, family=card.family,
                    num_train_timesteps=card.num_train_timesteps, truncation=card.truncation,
                    precision=card.precision,
                )  # fmt: skip
            except InputError as error:
                if source == card.generator_source and Path(source).exists():
                    raise InputError(f"--more-steps: {error}") from error
                continue
            if weights_sha256(found.network) == card.generator_sha256:
                return found.to(self._device)
        named = card.generator_source or "the card names none"
        raise InputError(
            f"--more-steps: the generator of the images ({named}) is not to be had with "
            f"{num_steps} steps; sample them and give --other 'more steps=FILE'"
        )

    def __call__(self, baseline: Drawn) -> tuple[Drawn, dict[str, Any]]:
        """Return the same seeds with more steps, and what they and refining cost.

        Returns:
            The images, and ``num_steps``, ``before`` (the steps as they were) and the seconds per
            1,000 images that the further steps (``seconds``) and refining (``refine_seconds``)
            take, measured here one after the other.
        """
        if self._card.sha256.get("images") != baseline.sha256:
            raise InputError(f"{baseline.source}: the card beside it is of other images")
        again, before = self._sampled(self._first, some := baseline[:TIMED])
        # Rounding on another machine moves few pixels by more than a level.
        if (again.float() - some.images_uint8.float()).abs().mean() > MAX_LEVELS:
            raise InputError(
                f"{baseline.source}: sampling its ids as seeds gives other images; sample with "
                "more steps by hand, and give --other NAME=FILE"
            )
        images, seconds = self._sampled(self._longer, baseline)
        sha256 = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        source = f"{baseline.source} with {self.num_steps} steps"
        return replace(baseline, images_uint8=images, source=source, sha256=sha256), {
            "num_steps": self.num_steps, "before": self._card.num_steps,
            "seconds": seconds - before, "refine_seconds": self._refining(some),
        }  # fmt: skip

    def _sampled(self, generator: Generator, like: Drawn) -> tuple[torch.Tensor, float]:
        labels = None if generator.num_classes is None else like.labels
        seeds = like.ids.tolist()
        generator.sample(seeds[:1], None if labels is None else labels[:1])  # prepares
        began = time.perf_counter()
        shown = progress("sample", generator.batches(seeds, labels), len(seeds))
        images = torch.cat([to_uint8(batch.images) for batch in shown])
        return images, 1000 * (time.perf_counter() - began) / len(seeds)

    def _refining(self, images: Drawn) -> float:
        with TemporaryDirectory() as folder:
            source, out = Path(folder, "b.npz"), Path(folder, "r.npz")
            write_samples(source, images.batches(TIMED), len(images))
            plan = plan_refine(
                source, self._guide, out, settings=self._refined.settings, device=self._device,
                labels="pseudo" if images.labels is None else "given",
                refiner=self._refined.refiner,
            )  # fmt: skip
            return 1000 * plan.run()["seconds"] / len(images)


def _card(kind: Any, images: str, command: str) -> Any:
    path = card_path(Path(split_rows(images)[0]))
    if not path.is_file():
        raise InputError(f"--more-steps needs images of {command}; there is no {path}")
    try:
        return read(kind, read_json(path), str(path))
    except InputError as error:
        raise InputError(f"--more-steps needs images of {command}: {error}") from error
