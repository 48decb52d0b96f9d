"""Real images with synthetic damage, to stand for images of generators that nobody has seen.

    python experiments/damage.py ../shared/data/cifar10/train-*.parquet[0-44999] damaged.npz

writes each image with one or two kinds of damage. Blur, noise and resampling change the spectrum;
smoothing that keeps edges, medians, posterizing and curves of contrast mostly change what no
spectrum shows; warps and patches break shapes. It needs SciPy (``uv sync --group benchmarks``).
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import ndimage
from torch import Tensor

from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.storage.formats import write_samples

Pixels = NDArray[np.uint8]  # [H, W, 3]
Damage = Callable[[Pixels, Generator], Pixels]
KERNELS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def smooth(image: Pixels, rng: Generator) -> Pixels:
    """Smooth it, but not across edges (Perona and Malik 1990, 3 to 11 steps)."""
    x = image / 255.0
    for _ in range(rng.integers(3, 12)):
        flow = np.zeros_like(x)
        for axis in (0, 1):
            step = np.diff(x, axis=axis)
            step *= np.exp(-((np.abs(step).mean(2, keepdims=True) / 0.06) ** 2))
            for side, sign in (((0, 1), 1), ((1, 0), -1)):
                pad = [(0, 0)] * 3
                pad[axis] = side
                flow += sign * np.pad(step, pad)
        x = x + 0.2 * flow
    return levels(255 * x)


def warp(image: Pixels, rng: Generator) -> Pixels:
    """Bend it by a smooth random field, by 1 to 2.5 pixels."""
    size = image.shape[:2]
    field = ndimage.gaussian_filter(rng.standard_normal((2, *size)), (0, 4, 4))
    field *= rng.uniform(1, 2.5) / field.std()
    places = np.indices(size) + field
    channels = image.transpose(2, 0, 1)
    bent = [ndimage.map_coordinates(c, places, order=1, mode="reflect") for c in channels]
    return levels(np.stack(bent, 2))


def patch(image: Pixels, rng: Generator) -> Pixels:
    """Blend a mirrored and shifted part of it over another part."""
    height, width = image.shape[:2]
    h, w = rng.integers(8, 20, 2)
    y, x = rng.integers(0, height - h), rng.integers(0, width - w)
    mask = np.zeros((height, width, 1))
    mask[y : y + h, x : x + w] = 1
    mask = ndimage.gaussian_filter(mask, (1.5, 1.5, 0))
    other = np.roll(image[:, ::-1], rng.integers(4, 28, 2), (0, 1))
    return levels(mask * other + (1 - mask) * image)


def resample(image: Pixels, rng: Generator) -> Pixels:
    """Shrink it to 12 to 25 pixels and enlarge it again."""
    size = int(rng.integers(12, 26))
    down, up = (KERNELS[i] for i in rng.choice(len(KERNELS), 2))
    whole = image.shape[1::-1]
    return pil(image, lambda i: i.resize((size, size), down).resize(whole, up))


def curve(image: Pixels, rng: Generator) -> Pixels:
    """Raise its levels to a power, or spread them by an S curve."""
    x = image / 255.0
    if rng.random() < 0.5:
        return levels(255 * x ** rng.choice([0.6, 0.75, 1.3, 1.6]))
    return levels(255 * (0.5 - 0.5 * np.cos(np.pi * x)))


def noise(image: Pixels, rng: Generator) -> Pixels:
    """Add white noise of 3 to 12 levels."""
    return levels(image + rng.normal(0, rng.uniform(3, 12), image.shape))


def blur(image: Pixels, rng: Generator) -> Pixels:
    """Blur it by 0.4 to 1.2 pixels."""
    return pil(image, lambda i: i.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2))))


def median(image: Pixels, rng: Generator) -> Pixels:
    """Take the median of 3x3 or 5x5 pixels."""
    return ndimage.median_filter(image, (int(rng.choice([3, 5])),) * 2 + (1,))


def sharpen(image: Pixels, rng: Generator) -> Pixels:
    """Sharpen it by 60 to 200 %, within 1 to 4 pixels."""
    mask = ImageFilter.UnsharpMask(rng.uniform(1, 4), int(rng.integers(60, 200)), 0)
    return pil(image, lambda i: i.filter(mask))


def saturate(image: Pixels, rng: Generator) -> Pixels:
    """Make its colors weaker or stronger."""
    return pil(image, lambda i: ImageEnhance.Color(i).enhance(rng.choice([0.4, 0.6, 1.5, 2.0])))


def posterize(image: Pixels, rng: Generator) -> Pixels:
    """Keep 8 or 16 levels."""
    return pil(image, lambda i: ImageOps.posterize(i, int(rng.integers(3, 5))))


def compress(image: Pixels, rng: Generator) -> Pixels:
    """Encode it as JPEG of quality 15 to 49."""
    return jpeg(image, int(rng.integers(15, 50)))


DAMAGES: tuple[Damage, ...] = (
    smooth, warp, patch, resample, curve, noise, blur, median, sharpen, saturate, posterize,
    compress,
)  # fmt: skip


def levels(values: NDArray[Any]) -> Pixels:
    """Return values in 0 .. 255 as the nearest levels."""
    return values.clip(0, 255).round().astype(np.uint8)


def pil(image: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    """Return an image changed by PIL."""
    return np.asarray(change(Image.fromarray(image)))


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Return an image after JPEG."""
    kept = io.BytesIO()
    Image.fromarray(image).save(kept, "jpeg", quality=quality)
    return np.asarray(Image.open(kept))


def damaged(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images ``[N, 3, H, W]`` uint8, each with one or two kinds of damage."""
    rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    found = []
    for image in images.permute(0, 2, 3, 1).numpy():
        for kind in rng.choice(len(DAMAGES), rng.integers(1, 3), replace=False):
            image = DAMAGES[kind](image, rng)
        found.append(image)
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def encoded(images: Tensor) -> Tensor:
    """Return images ``[N, 3, H, W]`` uint8 after JPEG of quality 75."""
    found = [jpeg(image, 75) for image in images.permute(0, 2, 3, 1).numpy()]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def main(source: str, out: str) -> None:
    """Write the images of a data set, damaged."""
    data = load_dataset(source)
    images = damaged(data.images_uint8, stream(1, "damage"))
    write_samples(Path(out), [Dataset(images, data.labels, source).samples()], len(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
