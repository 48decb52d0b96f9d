"""Continuous batching: images that are done leave the batch, others take their place.

So the time of a job follows the steps really taken, and every pass through the network is a full
one until the images run out. Which images share a batch changes none of them, but for rounding.

Without a stop rule no step waits for the device: who leaves when is known beforehand. With one, a
step ends with asking which images it names, one bool per image.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from burnish.samples import Samples

__all__ = ["MOST_WAITING", "Climbed", "Noise", "Step", "climb"]

# Batches that are held while one slow image of an earlier one climbs.
MOST_WAITING = 16

# (images, center, labels, noise) -> (images a step further, values and realness before it)
Step = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor]]
# (ids, steps each image has made) -> standard normal numbers, one image each
Noise = Callable[[list[int], list[int]], Tensor]


@dataclass
class Climbed:
    """A batch as it came in, and what has become of its images."""

    samples: Samples
    labels: Tensor
    images: Tensor
    """``[B, C, H, W]``, those that are done in their final state."""
    objective_before: Tensor
    realness_before: Tensor
    num_steps: Tensor
    num_left: int
    """Images not done yet."""

    @classmethod
    def of(cls, samples: Samples, labels: Tensor) -> "Climbed":
        """Begin a batch."""
        nothing = torch.zeros(len(samples), device=samples.images.device)
        steps = torch.zeros(len(samples), dtype=torch.int64)
        return cls(
            samples, labels, samples.images.clone(), nothing, nothing.clone(), steps, len(samples)
        )


@dataclass
class _Batch:
    """What is climbing now: the first two and the labels on the device, the rest on the host."""

    images: Tensor
    center: Tensor
    labels: Tensor
    owners: list[tuple[Climbed, int]] = field(default_factory=list)
    """Whose images they are, and which row there; sorted by age."""
    ids: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    """Made by each image."""

    def __len__(self) -> int:
        return len(self.owners)

    def keep(self, rows: list[int]) -> "_Batch":
        index = torch.tensor(rows, dtype=torch.int64).to(self.labels.device)
        return _Batch(
            self.images[index],
            self.center[index],
            self.labels[index],
            [self.owners[row] for row in rows],
            [self.ids[row] for row in rows],
            [self.steps[row] for row in rows],
        )

    def join(self, other: "_Batch") -> "_Batch":
        return _Batch(
            torch.cat([self.images, other.images]),
            torch.cat([self.center, other.center]),
            torch.cat([self.labels, other.labels]),
            self.owners + other.owners,
            self.ids + other.ids,
            self.steps + other.steps,
        )


@torch.no_grad()
def climb(
    step: Step,
    batches: Iterable[tuple[Samples, Tensor]],
    size: int,
    num_steps: int,
    *,
    threshold: float | None = None,
    noise: Noise | None = None,
) -> Iterator[Climbed]:
    """Climb every image for ``num_steps`` steps, or until it looks real enough.

    Args:
        step: Makes one step of a batch.
        batches: Samples and their labels ``[B]``, on the device; taken as there is room.
        size: Images that climb at a time.
        num_steps: At least 1.
        threshold: An image whose realness has reached it stays where it is; None for no such rule.
        noise: Draws the noise of a step; None where it takes none.

    Yields:
        The batches, in the order in which they came. No more than :data:`MOST_WAITING` of them
        wait for an image of one that came before.
    """
    source = iter(batches)
    waiting: deque[Climbed] = deque()
    climbing: _Batch | None = None
    newest, taken = None, 0  # the batch that images are being taken from, and how many were
    while True:
        first_new = len(climbing) if climbing else 0
        while (room := size - (len(climbing) if climbing else 0)) > 0:
            if newest is None or taken == len(newest.samples):
                if len(waiting) > MOST_WAITING:
                    break
                samples, labels = next(source, (None, None))
                if samples is None or labels is None:
                    break
                newest, taken = Climbed.of(samples, labels), 0
                waiting.append(newest)
            fresh = _enter(newest, taken, min(room, len(newest.samples) - taken))
            taken += len(fresh)
            climbing = climbing.join(fresh) if climbing else fresh
        if climbing is None or not len(climbing):
            return
        drawn = noise(climbing.ids, climbing.steps).to(climbing.images) if noise else None
        moved, values, realness = step(climbing.images, climbing.center, climbing.labels, drawn)
        _remember(climbing, first_new, values, realness)
        stays = [False] * len(climbing)
        if threshold is not None:
            enough = realness >= threshold
            moved = torch.where(enough.view(-1, 1, 1, 1), climbing.images, moved)
            stays = enough.tolist()
        climbing.images = moved
        climbing.steps = [n + (not still) for n, still in zip(climbing.steps, stays, strict=True)]
        done = [row for row, n in enumerate(climbing.steps) if n == num_steps or stays[row]]
        if done:
            _leave(climbing, done)
            gone = set(done)
            climbing = climbing.keep([row for row in range(len(climbing)) if row not in gone])
        while waiting and not waiting[0].num_left:
            yield waiting.popleft()


def _enter(batch: Climbed, start: int, count: int) -> _Batch:
    rows = slice(start, start + count)
    center = batch.samples.images[rows].clamp(0, 1)
    return _Batch(
        center.clone(),  # a compiled step takes two names of one tensor for another case
        center,
        batch.labels[rows],
        [(batch, row) for row in range(start, start + count)],
        batch.samples.ids[rows].tolist(),
        [0] * count,
    )


def _remember(climbing: _Batch, first_new: int, values: Tensor, realness: Tensor) -> None:
    """Keep what the newly entered images, the last rows, looked like."""
    for batch, theirs, rows in _by_owner(climbing, list(range(first_new, len(climbing)))):
        batch.objective_before[theirs] = values[rows]
        batch.realness_before[theirs] = realness[rows]


def _leave(climbing: _Batch, done: list[int]) -> None:
    for batch, theirs, rows in _by_owner(climbing, done):
        batch.images[theirs] = climbing.images[rows].clamp(0, 1)
        batch.num_steps[theirs] = torch.tensor([climbing.steps[row] for row in rows])
        batch.num_left -= len(rows)


def _by_owner(climbing: _Batch, rows: list[int]) -> Iterator[tuple[Climbed, list[int], list[int]]]:
    """Group rows by the batch they belong to: (batch, its rows, rows here)."""
    for _, group in groupby(rows, key=lambda row: id(climbing.owners[row][0])):
        here = list(group)
        yield climbing.owners[here[0]][0], [climbing.owners[row][1] for row in here], here
