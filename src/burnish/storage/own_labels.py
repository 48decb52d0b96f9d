"""Labels of one's own: one number for all images, or a file with one integer per image."""

import itertools
from array import array
from codecs import BOM_UTF8
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.arrays import check_integers, read_header, read_numbers, to_int64
from burnish.storage.sample_file import printable


def read_labels(labels: int | str | Path, num_images: int) -> Tensor:
    """Return the labels of ``num_images`` images, int64 ``[N]``.

    Args:
        labels: A class for all of them; or an ``.npy`` of integers ``[N]``; or a ``.txt`` or
            ``.csv`` with one integer per line, below a header ``label`` or ``labels`` or none.
        num_images: N.

    Raises:
        InputError: The file cannot be read, or does not hold one integer per image.
    """
    if isinstance(labels, int):
        return torch.full((num_images,), labels)
    path = Path(labels)
    if not path.is_file():
        raise InputError(f"{printable(path)}: no such file of labels; check the path")
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            shape, dtype = read_header(path, "the array", file)
            check_integers(path, "the array", shape, dtype, num_images)
            return to_int64(path, "the array", read_numbers(path, file, shape, dtype))
    if path.suffix.lower() in (".txt", ".csv"):
        return torch.tensor(_lines(path, num_images), dtype=torch.int64)
    raise InputError(f"{path}: labels are read from .npy, .txt or .csv, one integer per image")


def _lines(path: Path, num_images: int) -> "array[int]":
    values: array[int] = array("q")
    with path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(100)
            if number == 1:
                line = line.removeprefix(BOM_UTF8)  # as Excel writes it
            line = line.strip().strip(b'"')
            if not line and not file.peek(1):  # pyright: ignore[reportAttributeAccessIssue]
                break
            if number == 1 and line.lower() in (b"label", b"labels"):
                continue
            try:
                if b"_" in line:  # which Python takes for a part of a number
                    raise ValueError
                values.append(int(line))
            except (ValueError, OverflowError):
                said = line[:40].decode("utf-8", "replace")
                raise InputError(
                    f"{path}: line {number} is {said!r}; write one integer per line"
                ) from None
            if len(values) > num_images:
                break
    if len(values) != num_images:
        found = "more" if len(values) > num_images else str(len(values))
        raise InputError(f"{path}: {num_images} images but {found} labels; give one per image")
    return values
