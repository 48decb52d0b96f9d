"""Refine samples: climb a guide's objective image by image, and keep a ledger of it."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from burnish.ascent.balls import ball_of
from burnish.ascent.loop import Gradient, Noise, Slots, ascend
from burnish.ascent.spectrum import Filter
from burnish.ascent.step import Step, value_and_gradient
from burnish.errors import InputError, unknown
from burnish.guide.model import Guide
from burnish.networks.frozen import Frozen
from burnish.refinement.batching import Batch, climb_batches, in_batches
from burnish.refinement.labels import pseudo_labels
from burnish.refinement.ledger import Refined, settle
from burnish.refinement.presets import settings_for
from burnish.refinement.settings import RefineSettings
from burnish.refinement.speed import BATCH_SIZE, compiled_gradient
from burnish.samples import Samples
from burnish.seeds import stream


class Refiner:
    """Refines batches of samples.

    An image's result depends on the image, its id and label, the guide, the settings, the
    precision and the batch size, and on nothing else: not on the other images, their number or
    their order. Every call of the guide has exactly ``batch_size`` images; missing ones are
    filled in.

    Args:
        guide: On the device where the work is to be done; not changed.
        settings: Resolved, see :func:`~burnish.refinement.presets.settings_for`; None for the
            guide's own.
        precision: ``float32`` or ``bfloat16`` inside the guide. Pixels, norms and projections are
            float32 always.
        batch_size: Images per call of the guide; None for 32 on a CPU and 512 on a GPU.
        compile: Compile the gradient by ``torch.compile``.

    Raises:
        InputError: There is no such precision, or a setting does not go with this guide.
    """

    def __init__(
        self,
        guide: Guide,
        settings: RefineSettings | None = None,
        *,
        precision: str = "float32",
        batch_size: int | None = None,
        compile: bool = False,
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise unknown("precision", precision, ["float32", "bfloat16"])
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        self.settings = settings or settings_for(guide)
        self.precision = precision
        self.guide = guide.frozen(precision)
        self.device = next(guide.parameters()).device
        self.batch_size = batch_size or BATCH_SIZE.get(self.device.type, 32)
        self.threshold = guide.realness_quantile(self.settings.stop_quantile)
        self.objective = self.guide.objective(self.settings.objective)
        self.compile = compile
        precondition = self.settings.precondition == "spectrum"
        self._step = _step(self.settings, guide.preconditioner() if precondition else None)
        self._match = guide.matcher() if self.settings.match_spectrum else None
        self._climbs = self.settings.num_steps > 0 and self.settings.eps != 0
        # Passes per image that take time, and why images stop where no rule says.
        self.num_calls, self.stopped = self.settings.num_steps, ""

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
        yield from self.pairs(_labeled(batches, labels))

    def pairs(self, batches: Iterable[tuple[Samples, Tensor | None]]) -> Iterator[Refined]:
        """Refine batch after batch, each with the classes ``[B]`` that it is refined towards.

        Where these are None, they are the guide's opinion of the images before refinement.

        Raises:
            InputError: The guide does not know these classes, or the images' shape.
        """
        for batch in self._climbed(self._arrivals(batches)):
            yield self._refined(batch)

    def _climbed(self, arrivals: Iterator[Batch]) -> Iterator[Batch]:
        if not self._climbs:
            return arrivals
        return climb_batches(
            self.objective, arrivals, self.batch_size, self._step, self.settings.num_steps,
            threshold=self.threshold, noise=_noise(self.settings), gradient=self.gradient,
        )  # fmt: skip

    def start(self, images: Tensor) -> Tensor:
        """Return where images ``[B, C, H, W]`` begin to climb: at themselves, or matched."""
        match = self._match
        if match is None or not len(images):
            return images
        (started,) = in_batches(
            lambda part: (match(part).clamp(0, 1),), self.batch_size, images.to(self.device)
        )
        return started

    def path(self, images: Tensor, labels: Tensor, ids: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the images ``[B, C, H, W]`` as they are before the first and after each step.

        Args:
            images: ``[B, C, H, W]`` in [0, 1].
            labels: ``[B]``.
            ids: ``[B]``, for the noise of SGLD; None for 0 .. B - 1.
        """
        ids = torch.arange(len(images)) if ids is None else ids
        parts = [part.split(self.batch_size) for part in (images, labels, ids)]
        climbs = [self._path(*inputs) for inputs in zip(*parts, strict=True)]
        newest = [next(climb) for climb in climbs]
        while newest:
            yield torch.cat(newest)
            found = [next(climb, None) for climb in climbs]
            if all(one is None for one in found):
                return
            newest = [old if new is None else new for old, new in zip(newest, found, strict=True)]

    def _path(self, images: Tensor, labels: Tensor, ids: Tensor) -> Iterator[Tensor]:
        here = self.start(images.to(self.device))
        slots = Slots(here, self.batch_size)
        slots.enter(range(len(here)), here, labels, ids.tolist())
        yield slots.images[: len(here)].to(images.device, copy=True)
        if not self._climbs:
            return
        for _ in ascend(
            self.objective, slots, self._step, self.settings.num_steps,
            threshold=self.threshold, noise=_noise(self.settings), gradient=self.gradient,
        ):  # fmt: skip
            yield slots.images[: len(here)].to(images.device, copy=True)

    @property
    def gradient(self) -> Gradient:
        """What takes the gradient of an objective, see :mod:`burnish.ascent.step`."""
        return compiled_gradient(self.device.type) if self.compile else value_and_gradient

    def logits(self, images: Tensor) -> Tensor:
        """Return the guide's logits ``[B, K]``, float32."""
        with torch.no_grad():
            images = images.to(self.device)
            (logits,) = in_batches(lambda part: (self.guide(part),), self.batch_size, images)
        return logits

    def _arrivals(self, batches: Iterable[tuple[Samples, Tensor | None]]) -> Iterator[Batch]:
        fits = False
        for samples, labels in batches:
            if not len(samples):
                continue
            if not fits:
                check_fit(self.guide, samples, labels)
                fits = True
            samples = samples.to(self.device)
            if labels is None:
                labels = pseudo_labels(self.logits(samples.images))
            batch = Batch.of(samples, labels.to(self.device))
            batch.images = self.start(batch.images)
            yield batch

    @torch.no_grad()
    def _refined(self, done: Batch) -> Refined:
        after = in_batches(self.objective, self.batch_size, done.images, done.labels)
        if self._match is not None or not self._climbs:
            # The first step, if there was one, has looked at other images than those given.
            done.objective_before, done.realness_before = in_batches(
                self.objective, self.batch_size, done.samples.images, done.labels
            )
        by_realness = "realness" in self.guide.card and self.settings.objective != "ce"
        return settle(done, after, self.settings, self.stopped, by_realness=by_realness)


def _labeled(batches: Iterable[Samples], labels: Tensor) -> Iterator[tuple[Samples, Tensor]]:
    place = 0
    for samples in batches:
        here = labels[place : place + len(samples)]
        if len(here) < len(samples):
            raise InputError(f"{len(labels)} labels are fewer than the images")
        yield samples, here
        place += len(samples)


def _step(settings: RefineSettings, precondition: Filter | None) -> Step:
    assert settings.step_size is not None
    pgd = settings.update == "pgd"
    return Step(
        ball_of(settings.norm, settings.eps), settings.step_size, pgd, settings.noise_std,
        pgd or settings.clamp_each, precondition,
    )  # fmt: skip


def _noise(settings: RefineSettings) -> Noise | None:
    """Return the noise of SGLD: of image ``id`` at step ``k``, a stream of its own."""
    if settings.noise_std == 0:
        return None

    def draw(ids: list[int], steps: list[int], shape: Sequence[int]) -> Tensor:
        streams = (
            stream(one, f"sgld/{settings.seed}/{k}") for one, k in zip(ids, steps, strict=True)
        )
        return torch.stack([torch.randn(shape, generator=generator) for generator in streams])

    return draw


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
