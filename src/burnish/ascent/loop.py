"""The loop of the ascent, for refinement and for the attacks in training alike.

Images climb in a fixed number of **slots**. A finished image leaves its slot and another may take
it, while the rest keep their places. Every call of the objective therefore has the same batch
size, and an image's path does not depend on which images climb beside it, or on how many.

Start images are clamped to [0, 1] before the ball is centered on them. The ball and the box then
have a point in common, and neither projecting nor clamping can undo the other.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.ascent.balls import Ball
from burnish.ascent.spectrum import Filter
from burnish.ascent.step import Objective, Step, value_and_gradient

# (ids, steps each image has made, shape (C, H, W)) -> standard normal numbers [B, C, H, W].
Noise = Callable[[list[int], list[int], Sequence[int]], Tensor]
# value_and_gradient, or a compiled form of it.
Gradient = Callable[[Objective, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class Slots:
    """The images that climb now.

    Args:
        like: ``[B, C, H, W]``, images of the shape, type and device that will climb.
        size: Number of slots, the batch size of every call.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        self.images = like.new_zeros(size, *like.shape[1:])
        self.center = torch.zeros_like(self.images)
        self.labels = torch.zeros(size, dtype=torch.int64, device=like.device)
        self.ids = [0] * size
        self.num_steps = [0] * size
        """Steps that the image in each slot has made."""
        self.climbing = [False] * size
        """Whether there is an image in the slot that is not finished."""

    def free(self) -> list[int]:
        """Return the slots that an image may enter."""
        return [slot for slot, busy in enumerate(self.climbing) if not busy]

    def enter(
        self,
        slots: Sequence[int],
        center: Tensor,
        labels: Tensor,
        ids: Sequence[int],
        start: Tensor | None = None,
    ) -> None:
        """Put images into free slots.

        Args:
            slots: Where, ``S`` of them.
            center: ``[S, C, H, W]``, clamped to [0, 1].
            labels: ``[S]``.
            ids: One per image, for the noise.
            start: ``[S, C, H, W]``, where the images begin to climb; None for the center.
        """
        index = torch.tensor(slots, device=self.images.device)
        self.center[index] = center.clamp(0, 1)
        self.images[index] = self.center[index] if start is None else start.clamp(0, 1)
        self.labels[index] = labels.to(self.labels)
        for slot, one in zip(slots, ids, strict=True):
            self.ids[slot], self.num_steps[slot], self.climbing[slot] = one, 0, True


@dataclass(frozen=True)
class Iterate:
    """What one pass of the loop found and did.

    Args:
        values: ``[S]``, the objective of the image in each slot *before* the step.
        watched: ``[S]``, the watched number, likewise.
        entered: Slots whose image was looked at for the first time.
        finished: Slots whose image is final now and may be taken out.
    """

    values: Tensor
    watched: Tensor
    entered: list[int]
    finished: list[int]


@torch.no_grad()
def ascend(
    objective: Objective,
    slots: Slots,
    step: Step,
    num_steps: int,
    *,
    threshold: Tensor | float | None = None,
    noise: Noise | None = None,
    gradient: Gradient = value_and_gradient,
) -> Iterator[Iterate]:
    """Climb until every slot is free; yield after each step, when free slots may be filled again.

    Without a threshold no step waits for the device: who finishes when is known beforehand.

    Args:
        objective: Maximized.
        slots: Changed in place. Images that have finished stay in their slots until replaced.
        step: What is done with the gradient.
        num_steps: Steps per image, at least 1.
        threshold: An image whose watched number has reached it makes no further step. A number,
            or ``[S]`` where each slot has its own.
        noise: Draws the noise of SGLD; None for none.
        gradient: How the gradient is taken.
    """
    while any(slots.climbing):
        entered = [s for s, busy in enumerate(slots.climbing) if busy and not slots.num_steps[s]]
        found, values, watched = gradient(objective, slots.images, slots.labels)
        drawn = noise(slots.ids, slots.num_steps, found.shape[1:]).to(found) if noise else None
        moved = step(slots.images, found, slots.center, drawn)
        moves = list(slots.climbing)
        if threshold is not None:
            stops = (watched >= threshold).tolist()
            moves = [busy and not stop for busy, stop in zip(moves, stops, strict=True)]
        slots.images = _choose(moves, moved, slots.images)
        slots.num_steps = [n + move for n, move in zip(slots.num_steps, moves, strict=True)]
        finished = [
            slot
            for slot, (busy, move) in enumerate(zip(slots.climbing, moves, strict=True))
            if busy and (not move or slots.num_steps[slot] == num_steps)
        ]
        if finished and not step.clamp:
            index = torch.tensor(finished, device=slots.images.device)
            slots.images[index] = slots.images[index].clamp(0, 1)
        for slot in finished:
            slots.climbing[slot] = False
        yield Iterate(values, watched, entered, finished)


def _choose(moves: list[bool], moved: Tensor, images: Tensor) -> Tensor:
    if all(moves):
        return moved
    mask = torch.tensor(moves, device=images.device)
    return torch.where(mask.view(-1, *[1] * (images.ndim - 1)), moved, images)


def climb(
    objective: Objective,
    images: Tensor,
    labels: Tensor,
    *,
    ball: Ball,
    step_size: float,
    num_steps: int,
    random_start: bool = False,
    threshold: Tensor | float | None = None,
    precondition: Filter | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Climb one batch by PGD; return the images and the steps that each has made, ``[B]`` int64.

    Args:
        objective: Maximized.
        images: ``[B, C, H, W]``; clamped to [0, 1] first, which is where the ball is centered.
        labels: ``[B]``.
        ball: Where the images may go.
        step_size: Length of one step, in the ball's norm and unit.
        num_steps: Steps per image; 0 returns the clamped images.
        random_start: Begin at a random point of the ball.
        threshold: See :func:`ascend`.
        precondition: What gradients are multiplied by; None for nothing.
        generator: Of the random start; drawn on the CPU.

    Raises:
        ValueError: A random start was asked for, but the ball is infinite.
    """
    if random_start and not math.isfinite(ball.eps):
        raise ValueError("there is no uniform point of an infinite ball to start at")
    center = images.clamp(0, 1)
    start = ball.random_start(center, generator) if random_start else None
    slots = Slots(images, len(images))
    slots.enter(range(len(images)), center, labels, [0] * len(images), start)
    if num_steps:
        step = Step(ball, step_size, precondition=precondition)
        for _ in ascend(objective, slots, step, num_steps, threshold=threshold):
            pass
    return slots.images, torch.tensor(slots.num_steps, device=images.device)
