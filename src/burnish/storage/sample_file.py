"""What all formats share: the base class of readers, and the checks of samples to be written."""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import Samples

# Of one image; more is a mistake or an attack.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_PIXELS = 2**26


def printable(name: object) -> str:
    """Return a name as a message can show it, on one line."""
    return str(name) if str(name).isprintable() else ascii(str(name))


class SampleFile(ABC):
    """Samples on disk; iterating yields them in batches, in order, as often as needed.

    Opening checks all that needs no decoded image. Iterating holds one batch in memory and raises
    :class:`InputError` if an image is unusable.

    Args:
        path: Where the samples are.
        batch_size: Images per batch while iterating; the last batch may be smaller.
        image_shape: ``(C, H, W)`` of every image; C is 1 (gray) or 3 (RGB).
        num_images: N, at least one.
        labels: int64 ``[N]``, 0 or more; None if the file holds no labels.
        ids: int64 ``[N]``, all different; None stands for the places in the file, ``0 .. N-1``.
        names: One per image; None if images have no names in this format.
        classes: What label 0, 1, ... is called; None if unknown.
    """

    def __init__(
        self,
        path: Path,
        batch_size: int,
        image_shape: tuple[int, int, int],
        num_images: int,
        labels: Tensor | None = None,
        ids: Tensor | None = None,
        names: list[str] | None = None,
        classes: list[str] | None = None,
    ) -> None:
        _check_labels(path, labels)
        if image_shape[1] * image_shape[2] > MAX_PIXELS:
            size = f"{image_shape[1]}x{image_shape[2]}"
            raise InputError(f"{path}: images of {size}; at most {MAX_PIXELS} pixels are read")
        self.path, self.batch_size, self.image_shape = path, batch_size, image_shape
        self.has_ids = ids is not None
        self.ids = torch.arange(num_images) if ids is None else _check_ids(path, ids)
        self.labels, self.names, self.classes = labels, names, classes

    def set_labels(self, labels: Tensor) -> None:
        """Give the images other labels, int64 ``[N]``, whose classes have no names."""
        _check_labels(self.path, labels)
        self.labels, self.classes = labels, None

    def keep(self, thing: object) -> None:
        """Keep something alive as long as this file, such as a folder it was copied to."""
        self._kept_alive = thing

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Samples]:
        """Yield all samples in batches, in the order of the file."""
        return self.rows(0, len(self))

    def rows(self, start: int, stop: int) -> Iterator[Samples]:
        """Yield the samples of the places ``start .. stop-1`` in batches, in order.

        Only they are read; the last batch may be smaller. A deflated npz has to be unpacked from
        its beginning, unless the range starts where the last one ended.

        Raises:
            InputError: There are no such places.
        """
        if not 0 <= start <= stop <= len(self):
            raise InputError(
                f"{self.path}: no images {start} to {stop - 1}; it holds 0 to {len(self) - 1}"
            )
        firsts = range(start, stop, self.batch_size)
        parts = (range(first, min(first + self.batch_size, stop)) for first in firsts)
        return (self._samples(self._images(part), part) for part in parts)

    def read(self, indices: Sequence[int]) -> Samples:
        """Return the samples at these places (each of ``0 .. N-1``), in the given order.

        Only these images are read; a deflated npz is unpacked up to the last of them.

        Raises:
            InputError: There is no such place, or an image is unusable.
        """
        places = [int(i) for i in indices]
        for place in places:
            if not 0 <= place < len(self):
                raise InputError(f"{self.path}: no image {place}; it holds 0 to {len(self) - 1}")
        return self._samples(self._images(places), places)

    @abstractmethod
    def _images(self, places: Sequence[int]) -> Tensor:
        """Return the images at these (valid) places, float32 ``[len(places), C, H, W]``.

        A batch of :meth:`rows` is asked for as a ``range``.
        """

    def _samples(self, images: Tensor, places: Sequence[int]) -> Samples:
        """Return images with the labels and ids of their places."""
        index = torch.tensor(places, dtype=torch.int64)
        labels = None if self.labels is None else self.labels[index]
        return Samples(images, labels, self.ids[index])


def checked(path: Path, samples: Iterable[Samples], num_images: int) -> Iterator[Samples]:
    """Yield the batches that are not empty, on the CPU; check counts, shapes, labels, ids."""
    first: Samples | None = None
    seen, ids = 0, array("q")
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
            raise InputError(f"{path}: some images have labels, some have none; give all or none")
        _check_labels(path, batch.labels)
        ids.extend(batch.ids.tolist())
        # Making samples anew would check every pixel again.
        yield batch if batch.images.device.type == "cpu" else batch.to("cpu")
    if seen != num_images:
        raise InputError(f"{path}: {seen} of the {num_images} images announced; nothing kept")
    _check_ids(path, torch.tensor(ids))


def _check_ids(path: Path, ids: Tensor) -> Tensor:
    values, counts = ids.unique(return_counts=True)
    if len(values) < len(ids):
        some, count = int(values[counts.argmax()]), int(counts.max())
        raise InputError(f"{path}: {count} images have the id {some}; give each its own, or none")
    return ids


def _check_labels(path: Path, labels: Tensor | None) -> None:
    if labels is not None and labels.min() < 0:
        raise InputError(f"{path}: the label {int(labels.min())}; labels start at 0")
