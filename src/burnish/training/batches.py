"""The batches of a training: in which order images come, which process takes which, and how."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.seeds import stream
from burnish.storage.datasets import Dataset
from burnish.storage.disk_dataset import DiskDataset
from burnish.training import ranks
from burnish.training.augment import augment
from burnish.training.settings import AugmentConfig, TrainingConfig


class Batches:
    """The batches of a training, ``step -> Samples``; the ids of samples are their rows.

    Their order is a function of (seed, epoch); ``offset`` is added to the seed. A tail of the data
    shorter than a batch is left out. Of several processes each gets its part of the batch.
    """

    def __init__(
        self, data: Dataset | DiskDataset, config: TrainingConfig, offset: int = 0,
        changes: AugmentConfig | None = None,
    ) -> None:  # fmt: skip
        if len(data) < config.batch_size:
            raise InputError(f"{len(data)} images do not fill one batch of {config.batch_size}")
        self.data, self.batch_size = data, config.batch_size
        self.seed, self.flip = config.seed + offset, config.flip
        self.changes = changes or AugmentConfig()
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Samples:
        """Return the batch of a step, from 0 on."""
        epoch, place = divmod(step, len(self.data) // self.batch_size)
        if epoch != self._epoch:
            generator = stream(self.seed, f"order/{epoch}")
            self._epoch, self._order = epoch, torch.randperm(len(self.data), generator=generator)
        own = ranks.share(self.batch_size)
        batch = self.data.samples(self._order[place * self.batch_size :][: self.batch_size][own])
        if self.flip:
            drawn = torch.rand(self.batch_size, generator=stream(self.seed, f"flip/{step}"))
            mirrored = (drawn[own] < 0.5).view(-1, 1, 1, 1)
            batch = batch.with_images(torch.where(mirrored, batch.images.flip(3), batch.images))
        return augment(batch, self.changes, self.seed, step, own.start)


class Pairs:
    """The batches of several sides, ``step -> tuple of Samples``."""

    def __init__(self, *sides: Callable[[int], Samples]) -> None:
        self.sides = sides

    def __call__(self, step: int) -> tuple[Samples, ...]:
        """Return a batch of each side."""
        return tuple(side(step) for side in self.sides)


class Ahead:
    """Batches, ``step -> batch``, that worker processes make before they are asked for.

    Each worker makes whole batches, in turns; they come in the order of the steps.
    """

    def __init__(self, batches: Callable[[int], Any], num_steps: int, num_workers: int) -> None:
        self._batches, self._num_steps, self._num_workers = batches, num_steps, num_workers
        self._next, self._made = -1, iter(())

    def __call__(self, step: int) -> Any:
        """Return the batch of a step; fastest for the one after the last."""
        if not self._num_workers:
            return self._batches(step)
        if step != self._next:
            self._made, self._next = self._begin(step), step
        batch = next(self._made)
        self._next += 1
        if isinstance(batch, InputError):
            raise batch
        return batch

    def _begin(self, step: int) -> Iterator[Any]:
        # A generator of its own, or the loader would draw from the one of the training.
        return iter(
            DataLoader(
                _Steps(self._batches), batch_size=None, num_workers=self._num_workers,
                sampler=range(step, self._num_steps), generator=torch.Generator(),
                collate_fn=_as_it_is,
            )
        )  # fmt: skip


def _as_it_is(batch: Any) -> Any:
    """Return the batch; the loader's own function would make lists of tuples."""
    return batch


class _Steps(torch.utils.data.Dataset):
    def __init__(self, batches: Callable[[int], Any]) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Any:
        try:
            return self._batches(step)
        except InputError as error:
            return error  # raised here, it would come with a trace in its text
