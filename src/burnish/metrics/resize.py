"""How images are brought to the size of a feature extractor: six ways that tools have.

Each function takes uint8 images ``[B, C, H, W]`` and a side S and returns float32 levels
``[B, C, S, S]``. They differ by where pixels lie, by how far a kernel reaches, and by what is
clipped or rounded. Of the same images, each gives another FID.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


def tf1(images_uint8: Tensor, side: int) -> Tensor:
    """TensorFlow 1: bilinear, corners of pixels as their places, no antialiasing.

    So does the network of the FID itself: ADM, EDM, TTUR and torch-fidelity.
    """
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as resize,
    )

    return resize(images_uint8.float(), size=(side, side), align_corners=False)


def half_pixel(images_uint8: Tensor, side: int) -> Tensor:
    """Bilinear between the centers of pixels, no antialiasing: pytorch-fid."""
    return interpolate(images_uint8.float(), (side, side), mode="bilinear", align_corners=False)


def bilinear_antialias(images_uint8: Tensor, side: int) -> Tensor:
    """Bilinear, with antialiasing where images shrink: torchmetrics."""
    return _antialias(images_uint8, side, "bilinear")


def bicubic_antialias(images_uint8: Tensor, side: int) -> Tensor:
    """Bicubic with antialiasing, levels beyond [0, 255] kept: EDM2 for DINOv2."""
    return _antialias(images_uint8, side, "bicubic")


def bicubic_clipped(images_uint8: Tensor, side: int) -> Tensor:
    """Bicubic with antialiasing, clipped to [0, 255] and not rounded: clean-fid.

    clean-fid calls Pillow on each channel as floats. torch has the same kernel, and its levels
    are within 5e-3 of Pillow's.
    """
    return _antialias(images_uint8, side, "bicubic").clamp(0, 255)


def bicubic_uint8(images_uint8: Tensor, side: int) -> Tensor:
    """Bicubic with antialiasing by Pillow, rounded to uint8: dgm-eval."""
    from PIL import Image

    shape, flat = images_uint8.shape, images_uint8.cpu().flatten(0, 1).numpy()
    small = [Image.fromarray(channel).resize((side, side), Image.Resampling.BICUBIC)
             for channel in flat]  # fmt: skip
    resized = np.stack([np.asarray(one) for one in small]).reshape(*shape[:2], side, side)
    return torch.from_numpy(resized).float().to(images_uint8.device)


def _antialias(images_uint8: Tensor, side: int, mode: str) -> Tensor:
    images, size = images_uint8.float(), (side, side)
    return interpolate(images, size, mode=mode, align_corners=False, antialias=True)


def centered(levels: Tensor) -> Tensor:
    """Scale levels as the network of the FID does, by (x - 128) / 128."""
    return (levels - 128) / 128


def symmetric(levels: Tensor) -> Tensor:
    """Scale levels as pytorch-fid does, by 2 x / 255 - 1."""
    return 2 * (levels / 255) - 1


Resizer = Callable[[Tensor], Tensor]

SIDE = 299
INCEPTION_RESIZERS: dict[str, Resizer] = {
    "": lambda images: centered(tf1(images, SIDE)),
    "clean": lambda images: centered(bicubic_clipped(images, SIDE)),
    "pytorch-fid": lambda images: symmetric(half_pixel(images, SIDE)),
    "antialias": lambda images: centered(bilinear_antialias(images, SIDE)),
}
"""From the suffix of an extractor's name to the images that Inception sees."""
