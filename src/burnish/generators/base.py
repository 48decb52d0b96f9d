"""What every generator is: ``sample(seeds, labels) -> Samples``, image i a function of seed i."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.seeds import Streams

__all__ = ["Generator"]


class Generator(ABC):
    """A network that makes images from noise of each seed's own.

    Args:
        network: In eval mode from here on.
        nfe: Network calls per image.
        card: Facts about its training, kept beside the weights.
    """

    def __init__(self, network: nn.Module, nfe: int, card: Mapping[str, Any] | None) -> None:
        self.network = network.eval()
        self.nfe = self.num_steps = nfe
        self.card = dict(card or {})

    @property
    @abstractmethod
    def num_classes(self) -> int | None:
        """Number of classes, or None."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""

    @abstractmethod
    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1], on the network's device.

        Args:
            noise: The seeds' own streams.
            count: How many seeds there are.
            labels: ``[count]`` int64 on the device, or None without classes.
        """

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: str) -> Self:
        """Move the network to a device and return this generator."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], labels: Tensor | None = None) -> Samples:
        """Make one image per seed; image i is a function of seed i, label i and the weights.

        Args:
            seeds: One per image.
            labels: ``[B]`` int64; None draws each from its seed's own stream.

        Raises:
            InputError: There is not one label per seed, or one is not of this model's classes.
        """
        num_classes = self.num_classes
        if labels is not None:
            if num_classes is None:
                raise InputError("this model knows no classes; sample without labels")
            if labels.shape != (len(seeds),):
                raise InputError(f"{len(seeds)} seeds but labels of shape {list(labels.shape)}")
            if not bool(((labels >= 0) & (labels < num_classes)).all()):
                raise InputError(f"labels must be 0 .. {num_classes - 1}")
        elif num_classes is not None:
            labels = Streams(seeds, "label").integers(num_classes)
        on_device = None if labels is None else labels.to(self.device)
        images = self.draw(Streams(seeds, "noise"), len(seeds), on_device)
        return Samples(images.cpu(), labels, torch.tensor(list(seeds)))

    def batches(
        self, seeds: Sequence[int], labels: Tensor | None = None, batch_size: int = 100
    ) -> Iterator[Samples]:
        """Yield the samples of many seeds, ``batch_size`` at a time."""
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            yield self.sample(seeds[part], None if labels is None else labels[part])
