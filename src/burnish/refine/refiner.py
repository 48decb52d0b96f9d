"""Refine samples: climb a guide's objective image by image, and keep a ledger of what was done."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from burnish.ascent.loop import Ball, L2Ball, LinfBall, Unbounded, Update
from burnish.errors import InputError, unknown
from burnish.guide.model import Guide
from burnish.networks import Frozen
from burnish.refine.batching import Climbed, climb
from burnish.refine.settings import PRESETS, RefineSettings, settings_for
from burnish.refine.speed import COMPILE, fastest, precision_for
from burnish.samples import Samples
from burnish.seeds import stream

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

    def __len__(self) -> int:
        return len(self.samples)


class Refiner:
    """Refines batches of samples; image i depends on its id, its label and the settings alone.

    Args:
        guide: On the device where the work is to be done; not changed.
        settings: Resolved, see :func:`settings_for`.
        precision: ``float32`` or ``bfloat16`` inside the guide, or ``auto`` for what suits the
            device; pixels, norms and projections are float32 always.
        batch_size: Images that climb at a time; by default as many as the first batch has.
        compile: Fuse the step by torch.compile: ``auto`` where measuring says that it pays in a
            job of this length, ``always`` or ``never``.

    Raises:
        InputError: There is no such precision or way to compile.
    """

    def __init__(
        self,
        guide: Guide,
        settings: RefineSettings,
        precision: str = "auto",
        batch_size: int | None = None,
        compile: str = "auto",
    ) -> None:
        self.device = next(guide.parameters()).device
        self.precision = precision_for(self.device) if precision == "auto" else precision
        if self.precision not in ("float32", "bfloat16"):
            raise unknown("precision", precision, ["auto", "float32", "bfloat16"])
        self.guide, self.settings = guide.frozen(self.precision), settings
        if compile not in COMPILE:
            raise unknown("compile", compile, COMPILE)
        self.batch_size, self.compile = batch_size, compile
        self.compiled = False  # whether the last job's full batches were
        self.threshold = realness_quantile(guide, settings.stop_quantile)
        self._assess = self.guide.objective(settings.objective)
        self._update = _update(settings)

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
        arrivals = iter(self._arrivals(batches, labels))
        first = next(arrivals, None)
        if first is None:
            return
        arrivals = chain([first], arrivals)
        size, settings = self.batch_size or len(first[0]), self.settings
        if settings.num_steps == 0:
            for samples, targets in arrivals:
                yield self._refined(Climbed.of(samples, targets))
            return

        full = self._full_step(first, size, len(labels))
        self.compiled = full != self.step

        def step(*batch: Any) -> tuple[Tensor, Tensor, Tensor]:
            # A compiled step is for full batches; the last images, ever fewer, are not worth it.
            return (full if len(batch[0]) == size else self.step)(*batch)

        def noise(ids: list[int], steps: list[int]) -> Tensor:
            shape = first[0].images.shape[1:]
            streams = (
                stream(i, f"sgld/{settings.seed}/{k}") for i, k in zip(ids, steps, strict=True)
            )
            return torch.stack([torch.randn(shape, generator=one) for one in streams])

        for climbed in climb(
            step, arrivals, size, settings.num_steps, threshold=self.threshold,
            noise=noise if settings.noise_std > 0 else None,
        ):  # fmt: skip
            yield self._refined(climbed)

    def _full_step(
        self, first: tuple[Samples, Tensor], size: int, num_images: int
    ) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        samples, labels = first
        if len(samples) < size:
            return self.step
        images, labels = samples.images[:size].clamp(0, 1), labels[:size]
        noise = torch.zeros_like(images) if self.settings.noise_std > 0 else None
        # Not the settings as a whole: the seed, say, has no part in the speed.
        what = f"{self.guide.network}, {self._update}, {self.settings.objective}, {self.precision}"
        num_calls = num_images * self.settings.num_steps / size
        arguments = (images, images.clone(), labels, noise)
        return fastest(self.step, self.traceable_step, arguments, num_calls, what, self.compile)

    def _arrivals(
        self, batches: Iterable[Samples], labels: Tensor
    ) -> Iterator[tuple[Samples, Tensor]]:
        place = 0
        for samples in batches:
            if not len(samples):
                continue
            if place == 0:
                check_fit(self.guide, samples, labels)
            here = labels[place : place + len(samples)]
            if len(here) < len(samples):
                raise InputError(f"{len(labels)} labels are fewer than the images")
            yield samples.to(self.device), here.to(self.device)
            place += len(samples)

    def step(
        self, images: Tensor, center: Tensor, labels: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Make one step of images ``[B, C, H, W]``; nothing in it waits for the device.

        Returns:
            The images a step further, and the objective and realness, ``[B]``, they had before it.
        """
        with torch.enable_grad():
            points = images.detach().requires_grad_()
            values, realness = self._assess(points, labels)
            (gradient,) = torch.autograd.grad(values.sum(), points)
        return self._update(images, gradient, center, noise), values.detach(), realness

    def traceable_step(
        self, images: Tensor, center: Tensor, labels: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Make the same step in a form that torch.compile turns into one graph.

        Uncompiled it is slower: torch.func keeps gradients differentiable, and for that takes
        activations such as SiLU apart.
        """

        def total(images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            values, realness = self._assess(images, labels)
            return values.sum(), (values, realness)

        gradient, (_, (values, realness)) = grad_and_value(total, has_aux=True)(images)
        return self._update(images, gradient, center, noise), values, realness

    @torch.no_grad()
    def _refined(self, done: Climbed) -> Refined:
        objective_after, realness_after = self._assess(done.images, done.labels)
        if self.settings.num_steps == 0:
            done.objective_before, done.realness_before = objective_after, realness_after
        moved = (done.images - done.samples.images).flatten(1)
        ledger = Ledger(
            done.samples.ids.cpu(),
            done.labels.cpu(),
            done.objective_before.cpu(),
            objective_after.cpu(),
            done.realness_before.cpu(),
            realness_after.cpu(),
            moved.norm(dim=1).cpu(),
            moved.abs().amax(1).cpu(),
            done.num_steps,
            self._reasons(done.num_steps, moved),
        )
        return Refined(done.samples.with_images(done.images).to("cpu"), ledger)

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


def _update(settings: RefineSettings) -> Update:
    assert settings.step_size is not None
    ball: Ball = Unbounded()
    if settings.norm != "none":
        assert settings.eps is not None
        ball = (L2Ball if settings.norm == "l2" else LinfBall)(settings.eps)
    pgd = settings.update == "pgd"
    return Update(ball, settings.step_size, pgd, settings.noise_std, pgd or settings.clamp_each)


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
        image = samples.images[:1].to(next(guide.parameters()).device)
        if isinstance(guide.network, Frozen):
            guide.network.fit(image)
        num_classes = guide(image).shape[1]
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"this guide does not take images of shape {shape}: {reason}") from error
    if labels is not None and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= num_classes:
            found = low if low < 0 else high
            raise InputError(f"label {found} is not one of this guide's 0 .. {num_classes - 1}")
    return num_classes
