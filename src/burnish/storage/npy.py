"""Samples as a plain ``.npy``: uint8 ``[N, H, W, C]`` or ``[N, C, H, W]``, and nothing else.

Labels and ids have no place in it. Read them from a file of their own (``labels`` of
:func:`~burnish.storage.formats.open_samples`).
"""

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from numpy.lib import format as npy

from burnish.samples import Samples, to_uint8
from burnish.storage.arrays import ArrayFile, Pixels, check_images, opener, read_header


class Reader(ArrayFile):
    """Samples of an ``.npy``; floats must lie in [0, 1] and are checked batch by batch."""

    def __init__(self, path: Path, batch_size: int) -> None:
        with path.open("rb") as file:
            shape, dtype = read_header(path, "the array", file)
            begin = file.tell()
        check_images(path, "the array", shape, dtype, channels_first=True)
        open_at = opener(path, begin, math.prod(shape) * dtype.itemsize)
        super().__init__(
            path, batch_size, "the array", shape, lambda: Pixels(path, shape[1:], dtype, open_at)
        )


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: object, classes: object
) -> None:
    """Write the pixels as uint8 ``[N, H, W, C]``; nothing else has a place there."""
    del names, classes
    first = next(samples)
    channels, height, width = first.images.shape[1:]
    shape = (num_images, height, width, channels)
    with target.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, header)
        for batch in chain([first], samples):
            pixels = to_uint8(batch.images).permute(0, 2, 3, 1).contiguous()
            file.write(pixels.numpy().data)
