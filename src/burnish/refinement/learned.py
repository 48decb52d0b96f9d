"""Learned refinement: a network that imitates a guide's ascent, in one pass.

``burnish distill`` trains it on images before and after their ascent. It sees neither classes nor
the guide. What keeps a refined image near the given one is kept all the same: the result is
projected to the ball of the settings around the place where the ascent would begin.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from burnish.ascent.balls import ball_of
from burnish.checkpoint import load_model
from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.guide.model import Guide
from burnish.hub import find
from burnish.metrics.features import weights_sha256
from burnish.networks.frozen import Frozen
from burnish.networks.residual import Residual
from burnish.refinement.batching import Batch, in_batches
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.refinement.settings import RefineSettings
from burnish.schema import read

# The word for the file of this name beside the guide's.
LEARNED, FILE_NAME = "learned", "refiner.safetensors"
ONE_PASS = "one pass"
# Settings that a network need not have imitated to obey.
FREE = ("eps", "step_size", "keep_better", "seed")


@dataclasses.dataclass(frozen=True)
class RefinerCard:
    """What the card of a learned refiner must say."""

    open = True
    guide_sha256: str = ""
    settings: RefineSettings = dataclasses.field(default_factory=RefineSettings)
    """Those that it imitates."""


class Learned(NamedTuple):
    """A learned refiner, as a file holds it."""

    source: str
    """As it was named."""
    sha256: str
    network: Residual
    settings: RefineSettings


def guide_sha256(guide: Guide) -> str:
    """Return the hash of a guide's file, or of its weights where it came from none."""
    return guide.card.get("sha256") or weights_sha256(guide)


def load_learned(source: str, guide: Guide, guide_source: object, num_channels: int) -> Learned:
    """Load a learned refiner.

    Args:
        source: Its file, or ``learned`` for ``refiner.safetensors`` beside the guide's file.
        guide: That it must have imitated.
        guide_source: The name or path that the guide was loaded by.
        num_channels: Of the images that are to be refined.

    Raises:
        InputError: There is none, or it is one of another guide or for other images.
    """
    path = Path(source)
    if source == LEARNED:
        if not isinstance(guide_source, str | Path):
            raise InputError("say which file the learned refiner is: this guide came from none")
        path = beside(find("guide", str(guide_source)))
        if not path.is_file():
            raise InputError(
                f"{guide_source} has no learned refiner: there is no {path}; burnish distill "
                "makes one, or give its path"
            )
    network, values = load_model(path)
    if not isinstance(network, Residual):
        raise InputError(f"{path} is no learned refiner; burnish distill makes them")
    card = read(RefinerCard, values, f"the card in {path}")
    if card.guide_sha256 != guide_sha256(guide):
        raise InputError(
            f"{path} has learned from another guide, {values.get('guide', 'unnamed')}; give that "
            "as the guide, or distill this one (burnish distill)"
        )
    if network.in_channels != num_channels:
        raise InputError(
            f"{path} takes images of {network.in_channels} channels, these have {num_channels}"
        )
    return Learned(source, path_sha256(path), network, card.settings)


def beside(guide: Path) -> Path:
    """Return where the learned refiner of a guide lies, from the guide's file or folder."""
    return (guide if guide.is_dir() else guide.parent) / FILE_NAME


def learned_settings(
    learned: Learned | None, guide: Guide, preset: str | None = None, **overrides: Any
) -> RefineSettings:
    """Return the settings that a learned refiner imitates, with what was asked for in their place.

    With a preset, or without a learned refiner, they are those of
    :func:`~burnish.refinement.presets.settings_for`.

    Raises:
        InputError: The preset or a setting is unknown.
    """
    if preset is not None or learned is None:
        return settings_for(guide, preset, **overrides)
    given = {name: value for name, value in overrides.items() if value is not None}
    return dataclasses.replace(learned.settings, **given)


def make_refiner(
    guide: Guide, settings: RefineSettings | None, learned: Learned | None = None, **options: Any
) -> Refiner:
    """Return a refiner that climbs, or one that has learned to; ``options`` are the Refiner's."""
    if learned is None:
        return Refiner(guide, settings, **options)
    return LearnedRefiner(guide, learned, settings or learned.settings, **options)


class LearnedRefiner(Refiner):
    r"""Refines by one pass of a network, and keeps the same ledger by the guide.

    With the start :math:`s`, the given image or what the guide's filter makes of it, the ball
    :math:`B` of the settings and the network :math:`s + r(s)`, the result is

    .. math:: \mathrm{clamp}_{[0, 1]} (\mathrm{project}_{B(s)} (s + r(s)))

    It depends on the image, the weights, the settings, the precision and the batch size alone.
    The other arguments are those of :class:`~burnish.refinement.refiner.Refiner`; there is no
    gradient, so nothing is compiled.

    Raises:
        InputError: The settings ask for what the network has not learned.
    """

    def __init__(
        self, guide: Guide, learned: Learned, settings: RefineSettings, **options: Any
    ) -> None:
        for field in dataclasses.fields(RefineSettings):
            here, there = (getattr(one, field.name) for one in (settings, learned.settings))
            if field.name not in FREE and here != there:
                raise InputError(
                    f"the refiner {learned.source} imitates {field.name} {there}, not {here}; "
                    "leave that out, or distill with it (burnish distill)"
                )
        super().__init__(guide, settings, **{**options, "compile": False})
        self.threshold, self._climbs = None, False
        self.num_calls, self.stopped = 1, ONE_PASS
        self._network = Frozen(learned.network, self.precision).to(self.device)
        self._ball = ball_of(self.settings.norm, self.settings.eps)

    @torch.no_grad()
    def passed(self, start: Tensor) -> Tensor:
        """Return what one pass makes of start images ``[B, C, H, W]``, in [0, 1]."""

        def move(part: Tensor) -> tuple[Tensor]:
            return (self._ball.project(self._network(part), part).clamp(0, 1),)

        (moved,) = in_batches(move, self.batch_size, start)
        return moved

    def _climbed(self, arrivals: Iterable[Batch]) -> Iterator[Batch]:
        for batch in arrivals:
            batch.images = self.passed(batch.images)
            batch.num_steps += 1
            yield batch

    def _path(self, images: Tensor, labels: Tensor, ids: Tensor) -> Iterator[Tensor]:
        yield from super()._path(images, labels, ids)
        yield self.passed(self.start(images.to(self.device))).to(images.device)
