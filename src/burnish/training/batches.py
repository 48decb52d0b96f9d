"""Batches of images in an order that is a function of (seed, epoch)."""

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8
from burnish.seeds import stream

__all__ = ["Batches"]


class Batches:
    """A set of images in memory, ``step -> Samples``; the ids of samples are their rows.

    Args:
        images_uint8: ``[N, C, H, W]`` uint8.
        labels: ``[N]`` int64, or None.
        batch_size: Images per batch, at most N; a shorter tail is left out.
        seed: Of the order.
        flip: Mirror each image left to right with probability 1/2.

    Raises:
        InputError: There are fewer images than one batch has.
    """

    def __init__(
        self,
        images_uint8: Tensor,
        labels: Tensor | None,
        batch_size: int,
        seed: int,
        flip: bool = False,
    ) -> None:
        if len(images_uint8) < batch_size:
            raise InputError(f"{len(images_uint8)} images do not fill one batch of {batch_size}")
        self.images_uint8, self.labels = images_uint8, labels
        self.batch_size, self.seed, self.flip = batch_size, seed, flip
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Samples:
        """Return the batch of a step, from 0 on."""
        epoch, place = divmod(step, len(self.images_uint8) // self.batch_size)
        if epoch != self._epoch:
            generator = stream(self.seed, f"order/{epoch}")
            self._order = torch.randperm(len(self.images_uint8), generator=generator)
            self._epoch = epoch
        rows = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        images = from_uint8(self.images_uint8[rows])
        if self.flip:
            mirrored = torch.rand(len(rows), generator=stream(self.seed, f"flip/{step}")) < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return Samples(images, None if self.labels is None else self.labels[rows], rows)
