"""Samples in a ``.pt`` of plain tensors: one of images, or a dictionary of images and labels.

Images are uint8, or floats in [0, 1], ``[N, C, H, W]`` or ``[N, H, W, C]``. Read only, by
``torch.load(weights_only=True)``, which maps the file: no number is loaded before it is needed.
"""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.arrays import ArrayFile, check_images, check_integers, to_int64

_IMAGES = ("images", "image", "samples", "data", "x")
_LABELS = ("labels", "label", "targets", "y")
_MAPPED = 2**24  # bytes that are read of a mapped file before it is mapped anew
_BROKEN = (RuntimeError, ValueError, OSError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError,
           KeyError, TypeError, AttributeError, IndexError)  # fmt: skip


class Reader(ArrayFile):
    """Samples of a ``.pt``."""

    def __init__(self, path: Path, batch_size: int) -> None:
        images, labels = _load(path)
        check_images(path, "the tensor", images.shape, images.dtype, channels_first=True)
        if labels is not None:
            check_integers(path, "labels", labels.shape, labels.dtype, len(images))
            labels = to_int64(path, "labels", labels)
        self._mapped: np.ndarray | None = images
        self._read = 0
        super().__init__(path, batch_size, "the tensor", images.shape, None, labels)

    def _numbers(self, places: range) -> np.ndarray:
        images = self._mapped if self._mapped is not None else _load(self.path)[0]
        numbers = np.array(images[places.start : places.stop])
        # Pages of a mapped file that were read count as memory until it is let go.
        self._read += numbers.nbytes
        self._mapped = images if self._read < _MAPPED else None
        self._read %= _MAPPED
        return numbers


def _load(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images and labels, mapped."""
    try:
        with zipfile.ZipFile(path) as archive:
            # Nothing is compressed by torch, and what describes the tensors is short.
            for member in archive.infolist():
                is_long = member.filename.endswith(".pkl") and member.file_size > 2**20
                if member.compress_size != member.file_size or is_long:
                    raise ValueError("not as torch writes it")
        with warnings.catch_warnings(action="ignore"):
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _BROKEN as error:  # whose text is advice to trust the file
        said = "it holds other objects, or is damaged; save images.cpu() with torch.save"
        raise InputError(f"{path}: not a .pt of plain tensors: {said}") from error
    labels: Any = None
    if isinstance(held, dict):
        names = {str(name).lower(): name for name in held}
        labels = next((held[names[name]] for name in _LABELS if name in names), None)
        held = next((held[names[name]] for name in _IMAGES if name in names), None)
    if not isinstance(held, Tensor):
        raise InputError(
            f"{path}: no tensor of images in it; save one, or {{'images': ..., 'labels': ...}}"
        )
    return _plain(path, "the tensor", held), None if labels is None else _plain(
        path, "labels", labels
    )


def _plain(path: Path, what: str, tensor: Any) -> np.ndarray:
    """Return a tensor as an array that shares its memory."""
    if not isinstance(tensor, Tensor) or tensor.is_quantized or tensor.layout != torch.strided:
        raise InputError(f"{path}: {what} is not a plain tensor; save images.cpu()")
    if not tensor.is_contiguous():
        raise InputError(f"{path}: {what} is not contiguous; save x.contiguous().clone()")
    try:
        return tensor.detach().numpy()
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{path}: {what} is {tensor.dtype}; save uint8") from error
