"""One encoded image, in a file or in the cell of a table: its header, its pixels, its encoding.

Only images of up to 8 bits per channel are read. Gray is Pillow's mode ``L`` or ``1``; everything
else, palettes and transparency included, is read as RGB.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import from_uint8, to_uint8

# Pillow opens others by running programs (EPS), or at great length.
_KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# What the decoders of Pillow raise for damaged or hostile files.
_BROKEN = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)


def inspect(source: Path | BytesIO, name: str) -> tuple[int, int, int]:
    """Return ``(C, H, W)`` of an image from its header; C is 1 for gray, else 3."""
    with opened(source, name) as image:
        return 1 if image.mode in ("L", "1") else 3, image.height, image.width


def read_pixels(source: Path | BytesIO, name: str, image_shape: tuple[int, int, int]) -> Tensor:
    """Decode an image to uint8 ``[C, H, W]`` of the given shape; gray becomes RGB if C is 3."""
    return torch.from_numpy(read_array(source, name, image_shape).copy()).permute(2, 0, 1)


def read_array(source: Path | BytesIO, name: str, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Decode an image of shape ``(C, H, W)`` likewise, to uint8 ``[H, W, C]``."""
    with opened(source, name) as image:
        if (image.height, image.width) != image_shape[1:]:
            raise different_size(name, (3, image.height, image.width), image_shape)
        if image_shape[0] == 1 and image.mode not in ("L", "1"):
            raise InputError(f"{name} has color, the first image is gray; make all of them RGB")
        mode = "L" if image_shape[0] == 1 else "RGB"
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*image_shape[1:], -1)


def write_png(pixels: Tensor, target: Path) -> None:
    """Encode an image, uint8 ``[C, H, W]``, as a PNG file."""
    target.write_bytes(next(encode_pngs(from_uint8(pixels)[None])))


def encode_pngs(images: Tensor) -> Iterator[bytes]:
    """Yield images ``[B, C, H, W]`` in [0, 1], rounded to 256 levels, as PNG files."""
    arrays = to_uint8(images).permute(0, 2, 3, 1).contiguous().numpy()
    for array in arrays[..., 0] if arrays.shape[3] == 1 else arrays:
        Image.fromarray(array).save(content := BytesIO(), format="PNG", compress_level=6)
        yield content.getvalue()


def different_size(name: str, shape: Sequence[int], first: Sequence[int]) -> InputError:
    """Return the error for an image whose size is not that of the first."""
    sizes = f"{shape[1]}x{shape[2]} (height x width), the first image {first[1]}x{first[2]}"
    return InputError(f"{name} is {sizes}; resize them to one size")


@contextmanager
def opened(source: Path | BytesIO, name: str) -> Iterator[Image.Image]:
    """Open an image of up to 8 bits; Pillow decodes it when its pixels are read."""
    try:
        with Image.open(source, formats=_KINDS) as image:
            # Pillow reports a 16-bit RGB PNG as RGB and would truncate its values silently.
            packed = any(";16" in str(tile.args) for tile in image.tile)
            if packed or image.mode.startswith(("I", "F")):
                raise InputError(f"{name} has 16 bits or more per channel; save it with 8 bits")
            yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:  # whose text holds an address
        known = f"damaged, or none of {', '.join(_KINDS)}"
        raise InputError(f"{name} is not a readable image ({known}); remove it") from error
    except _BROKEN as error:
        raise InputError(f"{name} is not a readable image ({error}); remove it") from error
