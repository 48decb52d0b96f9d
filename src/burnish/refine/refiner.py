"""Refine samples: climb a guide's objective image by image, and keep a ledger of what was done."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.errors import InputError, unknown
from burnish.guide.model import Climb, Guide
from burnish.refine.ascent import Ball, Iterate, L2Ball, LinfBall, Unbounded, pgd, sgld
from burnish.refine.settings import PRESETS, RefineSettings, settings_for
from burnish.samples import Samples
from burnish.seeds import Streams

__all__ = [
    "PRESETS",
    "Ledger",
    "RefineSettings",
    "Refined",
    "Refiner",
    "check_fit",
    "settings_for",
]


@dataclass(frozen=True)
class Ledger:
    """What was done to each image of a batch; one row per image, all ``[B]``."""

    ids: Tensor
    labels: Tensor
    objective_before: Tensor
    objective_after: Tensor
    realness_before: Tensor
    realness_after: Tensor
    l2_moved: Tensor
    linf_moved: Tensor
    num_steps: Tensor
    stopped: tuple[str, ...]
    """Why: ``real enough``, ``no gradient``, ``all steps made`` or ``no steps asked``."""

    def columns(self) -> dict[str, list[Any]]:
        """Return plain columns; ids are called ``id`` and labels ``label``, as rows want."""
        columns: dict[str, list[Any]] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            name = {"ids": "id", "labels": "label"}.get(field.name, field.name)
            columns[name] = value.tolist() if isinstance(value, Tensor) else list(value)
        return columns


@dataclass(frozen=True)
class Refined:
    """Refined samples with their ledger."""

    samples: Samples
    ledger: Ledger


class Refiner:
    """Refines batches of samples; image i depends on its id, its label and the settings alone.

    Args:
        guide: In eval mode, on the device where the work is to be done.
        settings: Resolved, see :func:`settings_for`.
        precision: ``float32`` or ``bfloat16`` inside the guide; pixels, norms and projections are
            float32 always.
    """

    def __init__(self, guide: Guide, settings: RefineSettings, precision: str = "float32") -> None:
        if precision not in ("float32", "bfloat16"):
            raise unknown("precision", precision, ["float32", "bfloat16"])
        self.guide = guide.eval().requires_grad_(False)
        self.settings, self.precision = settings, precision
        self.device = next(guide.parameters()).device
        self.threshold = realness_quantile(guide, settings.stop_quantile)

    def __call__(self, batches: Iterable[Samples], labels: Tensor | None) -> Iterator[Refined]:
        """Refine batch after batch, lazily and in order.

        Args:
            batches: The samples; their own labels and ids come back unchanged.
            labels: ``[N]``, the class to refine each image towards, in order.

        Raises:
            InputError: There are no labels, or the guide does not know them or the images' shape.
        """
        if labels is None:
            raise InputError("these images have no labels; refine them with --labels pseudo")
        place = 0
        for samples in batches:
            if place == 0:
                check_fit(self.guide, samples, labels)
            here = labels[place : place + len(samples)]
            if len(here) < len(samples):
                raise InputError(f"{len(labels)} labels are fewer than the images")
            yield self.refine(samples, here)
            place += len(samples)

    def refine(self, samples: Samples, labels: Tensor) -> Refined:
        """Refine one batch towards the labels ``[B]``."""
        samples, labels = samples.to(self.device), labels.to(self.device)
        settings = self.settings
        device_type = self.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            climb = self.guide.objective(settings.objective, labels)
            with torch.no_grad():
                objective_before, realness_before = climb(samples.images), climb.realness
            images, num_steps = samples.images, torch.zeros_like(labels)
            for iterate in self._climb(climb, samples):
                images, num_steps = iterate.images, num_steps + iterate.moved
            with torch.no_grad():
                objective_after, realness_after = climb(images), climb.realness
        moved = (images - samples.images).flatten(1)
        ledger = Ledger(
            samples.ids.cpu(),
            labels.cpu(),
            objective_before.cpu(),
            objective_after.cpu(),
            realness_before.cpu(),
            realness_after.cpu(),
            moved.norm(dim=1).cpu(),
            moved.abs().amax(1).cpu(),
            num_steps.cpu(),
            self._reasons(num_steps, moved),
        )
        return Refined(samples.with_images(images).to("cpu"), ledger)

    def _climb(self, climb: Climb, samples: Samples) -> Iterator[Iterate]:
        settings, threshold = self.settings, self.threshold
        assert settings.step_size is not None
        ball: Ball = Unbounded()
        if settings.norm != "none":
            assert settings.eps is not None
            ball = (L2Ball if settings.norm == "l2" else LinfBall)(settings.eps)
        stop = None if threshold is None else lambda values: climb.realness >= threshold
        if settings.update == "pgd":
            return pgd(
                climb, samples.images, ball, settings.step_size, settings.num_steps, stop=stop
            )
        streams = Streams(samples.ids.tolist(), "sgld", settings.seed)
        return sgld(
            climb, samples.images, ball, settings.step_size, settings.num_steps,
            noise_std=settings.noise_std, noise=lambda: streams.normal(samples.images.shape[1:]),
            stop=stop, clamp_each=settings.clamp_each,
        )  # fmt: skip

    def _reasons(self, num_steps: Tensor, moved: Tensor) -> tuple[str, ...]:
        settings = self.settings
        if settings.num_steps == 0:
            return ("no steps asked",) * len(num_steps)
        may_move = settings.eps != 0 and settings.step_size != 0
        stuck = (moved == 0).all(1) & may_move
        reasons = ["no gradient" if still else "all steps made" for still in stuck.tolist()]
        # Only the stop rule makes an image's steps fewer than those asked for.
        return tuple(
            "real enough" if steps < settings.num_steps else reason
            for steps, reason in zip(num_steps.tolist(), reasons, strict=True)
        )


def realness_quantile(guide: Guide, quantile: float | None) -> float | None:
    """Return the realness that a share ``quantile`` of real images stays below; None for None.

    The card holds the realness of real images at equally spaced quantiles from 0 to 1; between
    them the value is interpolated.
    """
    if quantile is None:
        return None
    table = torch.tensor(guide.card["realness"]["quantiles"], dtype=torch.float64)
    place = quantile * (len(table) - 1)
    below = int(place)
    above = min(below + 1, len(table) - 1)
    return float(table[below] + (place - below) * (table[above] - table[below]))


@torch.no_grad()
def check_fit(guide: Guide, samples: Samples, labels: Tensor | None) -> int:
    """Return the guide's number of classes K, having seen that it takes such images and labels.

    Raises:
        InputError: It does not take images of this shape, or a label is not in 0 .. K - 1.
    """
    shape = list(samples.images.shape[1:])
    if guide.card.get("image_shape", shape) != shape:
        raise InputError(
            f"this guide takes images of shape {guide.card['image_shape']}, not {shape}"
        )
    try:
        device = next(guide.parameters()).device
        num_classes = guide(samples.images[:1].to(device)).shape[1]
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"this guide does not take images of shape {shape}: {reason}") from error
    if labels is not None and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            found = low if low < 0 else high
            raise InputError(f"label {found} is not one of this guide's 0 .. {num_classes - 1}")
    return num_classes
