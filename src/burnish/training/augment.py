"""Random changes of training images, each image's a function of (seed, step, its place)."""

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from burnish.samples import Samples
from burnish.seeds import stream
from burnish.training.settings import AugmentConfig

TRIES = 10  # to find a crop that lies in the image


def augment(samples: Samples, config: AugmentConfig, seed: int, step: int, first: int) -> Samples:
    """Return a batch whose images were cropped, mirrored and turned at random.

    A crop has a share of the image's area that is uniform in ``[min_area, 1]``, and a ratio of its
    sides that is uniform in the logarithm. It is enlarged to the whole by bilinear interpolation,
    as in Szegedy et al. 2015, https://arxiv.org/abs/1409.4842, and so are turned images.

    Args:
        samples: Images ``[B, C, H, W]`` on the CPU.
        config: How.
        seed: Of the training.
        step: The step that the batch is of.
        first: Place of the first image in the whole batch, of which this may be a part.
    """
    if config == AugmentConfig():
        return samples
    images = [
        _change(image, config, stream(seed, f"augment/{step}/{first + row}"))
        for row, image in enumerate(samples.images)
    ]
    return samples.with_images(torch.stack(images).clamp_(0, 1))


def _change(image: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    height, width = image.shape[1:]
    mirror, upside_down, turn, *rest = torch.rand(3 + 4 * TRIES, generator=generator).tolist()
    if config.min_area < 1:
        top, left, h, w = _crop(height, width, config, rest)
        image = F.resized_crop(image, top, left, h, w, [height, width], antialias=True)
    if config.mirror and mirror < 0.5:
        image = image.flip(2)
    if config.upside_down and upside_down < 0.5:
        image = image.flip(1)
    if config.rotation:
        angle = (2 * turn - 1) * config.rotation
        image = F.rotate(image, angle, interpolation=F.InterpolationMode.BILINEAR)
    return image


def _crop(
    height: int, width: int, config: AugmentConfig, numbers: list[float]
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a crop, the whole image if no try lies in it."""
    for start in range(0, 4 * TRIES, 4):
        area, ratio, y, x = numbers[start : start + 4]
        area = (config.min_area + area * (1 - config.min_area)) * height * width
        ratio = config.max_aspect ** (2 * ratio - 1)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    return 0, 0, height, width
