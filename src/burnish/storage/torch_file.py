"""Samples in a ``.pt`` of plain tensors: one of images, or a dictionary of images and labels.

Images are uint8, or floats in [0, 1], ``[N, C, H, W]`` or ``[N, H, W, C]``. Read only. The file is
read by ``torch.load(weights_only=True)`` in a mode that loads no numbers; they are read in
batches from where they lie.
"""

import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.arrays import (
    ArrayFile,
    Pixels,
    check_images,
    check_integers,
    opener,
    read_numbers,
)

_IMAGES = ("images", "image", "samples", "data", "x")
_LABELS = ("labels", "label", "targets", "y")
_BROKEN = (RuntimeError, ValueError, OSError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError,
           KeyError, TypeError, AttributeError, IndexError)  # fmt: skip


class Reader(ArrayFile):
    """Samples of a ``.pt``."""

    def __init__(self, path: Path, batch_size: int) -> None:
        held = _load(path)
        labels = None
        if isinstance(held, dict):
            names = {str(name).lower(): name for name in held}
            labels = next((held[names[name]] for name in _LABELS if name in names), None)
            held = next((held[names[name]] for name in _IMAGES if name in names), None)
        if not isinstance(held, Tensor):
            raise InputError(
                f"{path}: no tensor of images in it; save one, or {{'images': ..., 'labels': ...}}"
            )
        shape, dtype, begin = _place(path, "the tensor", held)
        check_images(path, "the tensor", shape, dtype, channels_first=True)
        open_at = opener(path, begin, math.prod(shape) * dtype.itemsize)
        super().__init__(
            path, batch_size, "the tensor", shape,
            lambda: Pixels(path, shape[1:], dtype, open_at),
            None if labels is None else _integers(path, labels, shape[0]),
        )  # fmt: skip


def _load(path: Path) -> Any:
    """Return what was saved, in tensors without numbers."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with zipfile.ZipFile(path) as archive:
            # Numbers are never compressed by torch; what describes them is short.
            whole = all(m.compress_size == m.file_size for m in archive.infolist())
            short = all(
                m.file_size < 2**20 for m in archive.infolist() if m.filename.endswith(".pkl")
            )
        if not (whole and short):
            raise ValueError("not as torch writes it")
        with FakeTensorMode():
            return torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: not a .pt of plain tensors ({reason}); save images.cpu() with torch.save"
        ) from error


def _place(path: Path, what: str, tensor: Any) -> tuple[list[int], np.dtype, int]:
    """Return the shape of a tensor, its type, and where in the file its numbers begin."""
    if not isinstance(tensor, Tensor) or tensor.is_quantized or tensor.layout != torch.strided:
        raise InputError(f"{path}: {what} is not a plain tensor; save images.cpu()")
    if not tensor.is_contiguous():
        raise InputError(f"{path}: {what} is not contiguous; save x.contiguous().clone()")
    try:
        dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
    except TypeError as error:
        raise InputError(f"{path}: {what} is {tensor.dtype}; save uint8") from error
    storage: Any = tensor.untyped_storage()
    begin = storage._checkpoint_offset + tensor.storage_offset() * tensor.element_size()
    return list(tensor.shape), dtype, begin


def _integers(path: Path, labels: Any, num_images: int) -> Tensor:
    shape, dtype, begin = _place(path, "the tensor of labels", labels)
    check_integers(path, "the tensor of labels", shape, dtype, num_images)
    with opener(path, begin, num_images * dtype.itemsize)(0) as file:
        return torch.from_numpy(read_numbers(path, file, shape, dtype).astype(np.int64))
