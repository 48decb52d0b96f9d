"""What the formats share: the reader's base class, and the checks of what is to be written."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import Samples

__all__ = ["SampleFile", "checked"]


class SampleFile(ABC):
    """Samples on disk: iterate over them, as often as needed, in the order of the file.

    Opening checks what can be checked without decoding the images; iterating holds one batch in
    memory and raises :class:`InputError` where an image turns out to be unusable.

    Args:
        path: Where the samples are.
        batch_size: Images per batch while iterating; the last batch may be smaller.
        image_shape: ``(C, H, W)`` of every image; C is 1 (grey) or 3 (RGB).
        labels: int64 ``[N]``, 0 or more; None if the file holds no labels.
        ids: int64 ``[N]``; None stands for the places in the file, ``0 .. N-1``.
        names: One per image; None if images have no names in this format.
        num_images: N, at least one.

    Raises:
        InputError: A label is negative.
    """

    def __init__(
        self,
        path: Path,
        batch_size: int,
        *,
        image_shape: tuple[int, int, int],
        num_images: int,
        labels: Tensor | None = None,
        ids: Tensor | None = None,
        names: list[str] | None = None,
    ) -> None:
        if labels is not None and labels.min() < 0:
            raise InputError(f"{path}: the label {int(labels.min())}; labels start at 0")
        self.path = path
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.labels = labels
        self.ids = torch.arange(num_images) if ids is None else ids
        self.names = names

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def __iter__(self) -> Iterator[Samples]:
        """Yield all samples in batches, in the order of the file."""

    def read(self, indices: Sequence[int]) -> Samples:
        """Return the samples at these places, in the order asked for.

        Cheap for folders and parquet. An npz is read from its beginning to the last of them.

        Args:
            indices: Places in the file, each of ``0 .. N-1``.

        Raises:
            InputError: There is no such place, or an image is unusable.
        """
        places = [int(i) for i in indices]
        for place in places:
            if not 0 <= place < len(self):
                raise InputError(f"{self.path}: no image {place}; it holds 0 to {len(self) - 1}")
        return self._samples(self._images(places), places)

    @abstractmethod
    def _images(self, places: list[int]) -> Tensor:
        """Return the images at these (valid) places, float32 ``[len(places), C, H, W]``."""

    def _samples(self, images: Tensor, places: Sequence[int]) -> Samples:
        """Join images with the labels and ids of their places."""
        index = torch.tensor(places, dtype=torch.int64)
        return Samples(
            images, None if self.labels is None else self.labels[index], self.ids[index]
        )


def checked(path: Path, samples: Iterable[Samples], num_images: int) -> Iterator[Samples]:
    """Yield batches on the CPU, none of them empty; raise where they break what was announced.

    Raises:
        InputError: Another number of images, several shapes, labels for some only, or below 0.
    """
    first: Samples | None = None
    seen = 0
    for batch in samples:
        if not len(batch):
            continue
        first = first or batch
        seen += len(batch)
        if seen > num_images:
            raise InputError(f"{path}: more than the {num_images} images announced; nothing kept")
        if batch.images.shape[1:] != first.images.shape[1:]:
            shapes = f"{list(first.images.shape[1:])} and {list(batch.images.shape[1:])}"
            raise InputError(f"{path}: images of shapes {shapes}; a file holds one shape")
        if (batch.labels is None) != (first.labels is None):
            raise InputError(
                f"{path}: some images have labels and some have none; give all or none"
            )
        if batch.labels is not None and batch.labels.min() < 0:
            raise InputError(f"{path}: the label {int(batch.labels.min())}; labels start at 0")
        yield batch.to("cpu")
    if seen != num_images:
        raise InputError(f"{path}: {seen} of the {num_images} images announced; nothing kept")
