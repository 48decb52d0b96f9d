"""Images as raters see them: enlarged, in PNG of one encoding and one length, or spoiled."""

import os
import struct
import zlib

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from burnish.samples import from_uint8
from burnish.storage.image_file import encode_pngs

# Of the chunk that pads a PNG: ancillary, private, safe to copy. Readers skip it.
_CHUNK = b"paDd"
_END = 12  # bytes of the last chunk of every PNG
MIN_PADDING = 12


def enlargement(height: int, width: int, shown_side: int) -> int:
    """Return the whole factor that brings the longer side up to a size; 1 for larger images."""
    return max(1, shown_side // max(height, width))


def encode(pixels: Tensor, factor: int) -> bytes:
    """Return an image, uint8 ``[C, H, W]``, as PNG, each pixel as factor x factor pixels.

    Enlarging is done here because browsers differ in how they do it.
    """
    large = pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return next(encode_pngs(from_uint8(large)[None]))


def padded(png: bytes, length: int) -> bytes:
    """Return the PNG with exactly this length, by random bytes that readers skip.

    The length of a file tells how smooth an image is, and so, which system made it.

    Args:
        png: At least :data:`MIN_PADDING` bytes shorter than ``length``.
        length: Of the result.
    """
    filler = os.urandom(length - len(png) - MIN_PADDING)
    check = struct.pack(">I", zlib.crc32(_CHUNK + filler))
    chunk = struct.pack(">I", len(filler)) + _CHUNK + filler + check
    return png[:-_END] + chunk + png[-_END:]


def spoil(pixels: Tensor, how: str, seed: int) -> Tensor:
    """Return the image, uint8 ``[C, H, W]``, so spoiled that nobody who looks prefers it.

    ``noise`` adds normal noise with a standard deviation of 90 levels; ``blur`` is Gaussian with a
    standard deviation of an eighth of the longer side.
    """
    array = pixels.permute(1, 2, 0).numpy()
    if how == "noise":
        noise = np.random.default_rng(seed).normal(0, 90, array.shape)
        array = np.clip(np.rint(array + noise), 0, 255).astype(np.uint8)
    else:
        image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
        image = image.filter(ImageFilter.GaussianBlur(max(image.size) / 8))
        array = np.asarray(image).reshape(array.shape)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)
