"""Batches of images in an order that is a function of (seed, epoch)."""

import torch

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.seeds import stream
from burnish.storage.datasets import Dataset

__all__ = ["Batches"]


class Batches:
    """The batches of a data set, ``step -> Samples``; the ids of samples are their rows.

    Args:
        data: The images.
        batch_size: Images per batch, at most all of them; a shorter tail is left out.
        seed: Of the order.
        flip: Mirror each image left to right with probability 1/2.

    Raises:
        InputError: There are fewer images than one batch has.
    """

    def __init__(self, data: Dataset, batch_size: int, seed: int, flip: bool = False) -> None:
        if len(data) < batch_size:
            raise InputError(f"{len(data)} images do not fill one batch of {batch_size}")
        self.data, self.batch_size, self.seed, self.flip = data, batch_size, seed, flip
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Samples:
        """Return the batch of a step, from 0 on."""
        epoch, place = divmod(step, len(self.data) // self.batch_size)
        if epoch != self._epoch:
            generator = stream(self.seed, f"order/{epoch}")
            self._epoch, self._order = epoch, torch.randperm(len(self.data), generator=generator)
        batch = self.data.samples(self._order[place * self.batch_size :][: self.batch_size])
        if not self.flip:
            return batch
        mirrored = torch.rand(len(batch), generator=stream(self.seed, f"flip/{step}")) < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1), batch.images.flip(3), batch.images)
        return batch.with_images(images)
