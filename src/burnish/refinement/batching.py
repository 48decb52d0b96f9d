"""Batches of samples through the slots of the ascent, and out again in order.

A finished image gives its slot to the next one, of whichever batch, so the time of a job follows
the steps that are really made. Every call of the network has the same number of images: which
images share a call, and how many are left, changes no image.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from burnish.ascent.loop import Gradient, Noise, Slots, ascend
from burnish.ascent.step import Objective, Step
from burnish.samples import Samples

# Batches that are held while a slow image of an earlier one climbs.
MAX_WAITING = 16


@dataclass
class Batch:
    """A batch as it came in, and what has become of its images."""

    samples: Samples
    labels: Tensor
    images: Tensor
    """``[B, C, H, W]``; those that are finished, in their final state."""
    objective_before: Tensor
    realness_before: Tensor
    num_steps: Tensor
    num_entered: int = 0
    num_finished: int = 0

    @classmethod
    def of(cls, samples: Samples, labels: Tensor) -> "Batch":
        """Begin with samples and the classes that they are refined towards, ``[B]``."""
        zeros = torch.zeros(len(samples), device=samples.images.device)
        steps = torch.zeros(len(samples), dtype=torch.int64)
        return cls(samples, labels, samples.images.clone(), zeros, zeros.clone(), steps)

    def __len__(self) -> int:
        return len(self.samples)


def climb_batches(
    objective: Objective,
    batches: Iterable[Batch],
    size: int,
    step: Step,
    num_steps: int,
    *,
    threshold: float | None,
    noise: Noise | None,
    gradient: Gradient,
) -> Iterator[Batch]:
    """Climb all images of all batches in ``size`` slots; yield the batches in their order.

    No more than :data:`MAX_WAITING` batches wait for an image of one that came before. The other
    arguments are those of :func:`burnish.ascent.loop.ascend`.
    """
    source, waiting = iter(batches), deque[Batch]()
    first = next(source, None)
    if first is None:
        return
    waiting.append(first)
    slots, owners = Slots(first.images, size), [(first, 0)] * size

    def fill() -> None:
        while free := slots.free():
            newest = waiting[-1] if waiting else None
            if newest is None or newest.num_entered == len(newest):
                following = next(source, None) if len(waiting) <= MAX_WAITING else None
                if following is None:
                    return
                waiting.append(newest := following)
            start = newest.num_entered
            rows = range(start, min(start + len(free), len(newest)))
            taken, part = free[: len(rows)], slice(rows.start, rows.stop)
            ids = newest.samples.ids[part].tolist()
            slots.enter(taken, newest.images[part], newest.labels[part], ids)
            for slot, row in zip(taken, rows, strict=True):
                owners[slot] = (newest, row)
            newest.num_entered = rows.stop

    fill()
    for iterate in ascend(
        objective, slots, step, num_steps, threshold=threshold, noise=noise, gradient=gradient
    ):
        for batch, rows, here in _by_owner(owners, iterate.entered):
            batch.objective_before[rows] = iterate.values[here]
            batch.realness_before[rows] = iterate.watched[here]
        for batch, rows, here in _by_owner(owners, iterate.finished):
            batch.images[rows] = slots.images[here]
            batch.num_steps[rows] = torch.tensor([slots.num_steps[slot] for slot in here])
            batch.num_finished += len(rows)
        while waiting and waiting[0].num_finished == len(waiting[0]):
            yield waiting.popleft()
        fill()  # last, when there is room for batches again: empty slots end the climb


def _by_owner(
    owners: Sequence[tuple[Batch, int]], slots: Sequence[int]
) -> Iterator[tuple[Batch, list[int], list[int]]]:
    """Group slots by the batch of their image: (batch, rows of the batch, slots)."""
    ordered = sorted(slots, key=lambda slot: id(owners[slot][0]))
    for _, group in groupby(ordered, key=lambda slot: id(owners[slot][0])):
        here = list(group)
        yield owners[here[0]][0], [owners[slot][1] for slot in here], here


def in_batches(
    function: Callable[..., tuple[Tensor, ...]], size: int, *inputs: Tensor
) -> tuple[Tensor, ...]:
    """Call a function on exactly ``size`` rows at a time; return its outputs, joined.

    The last rows are repeated where there are too few, and what comes of them is dropped.

    Args:
        function: Tensors ``[size, ...]`` to tensors ``[size, ...]``.
        size: Rows per call.
        inputs: Tensors ``[N, ...]``.
    """
    count, parts = len(inputs[0]), []
    for start in range(0, count, size):
        rows = torch.arange(start, start + size).clamp(max=count - 1).to(inputs[0].device)
        parts.append(function(*(one[rows] for one in inputs)))
    return tuple(torch.cat(outputs)[:count] for outputs in zip(*parts, strict=True))
