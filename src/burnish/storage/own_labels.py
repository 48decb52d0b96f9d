"""Labels of one's own: one number for all images, or a file with one integer per image."""

import itertools
from array import array
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.arrays import check_integers, read_header, read_numbers
from burnish.storage.sample_file import shown


def read_labels(labels: int | str | Path, num_images: int) -> Tensor:
    """Return the labels of ``num_images`` images, int64 ``[N]``.

    Args:
        labels: A class for all of them; or an ``.npy`` of integers ``[N]``; or a ``.txt`` or
            ``.csv`` with one integer per line, which may begin with a line ``label``.
        num_images: N.

    Raises:
        InputError: The file cannot be read, or does not hold one integer per image.
    """
    if isinstance(labels, int):
        return torch.full((num_images,), labels)
    path = Path(labels)
    if not path.is_file():
        raise InputError(f"{shown(path)}: no such file of labels; check the path")
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            shape, dtype = read_header(path, "the array", file)
            check_integers(path, "the array", shape, dtype, num_images)
            return torch.from_numpy(read_numbers(path, file, shape, dtype).astype(np.int64))
    if path.suffix.lower() in (".txt", ".csv"):
        return torch.tensor(_lines(path, num_images), dtype=torch.int64)
    raise InputError(f"{path}: labels are read from .npy, .txt or .csv, one integer per image")


def _lines(path: Path, num_images: int) -> "array[int]":
    values: array[int] = array("q")
    with path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(100).strip().strip(b'"')
            if not line and not file.peek(1):  # pyright: ignore[reportAttributeAccessIssue]
                break
            if number == 1 and line.lower() in (b"label", b"labels"):
                continue
            try:
                values.append(int(line))
            except (ValueError, OverflowError):
                said = shown(line[:40].decode("utf-8", "replace"))
                raise InputError(
                    f"{path}: line {number} is {said!r}; write one integer per line"
                ) from None
            if len(values) > num_images:
                break
    if len(values) != num_images:
        found = "more" if len(values) > num_images else str(len(values))
        raise InputError(f"{path}: {num_images} images but {found} labels; give one per image")
    return values
