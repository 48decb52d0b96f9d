"""The contrastive loss, which pairs two random views of one image: learning without labels.

Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR),
https://arxiv.org/abs/2002.05709. To find, among many images, the other view of the one before it,
a network must see what cropping, mirroring and recoloring leave: mostly what the image shows.
Views are those of appendix A. Their numbers are drawn on the CPU, from torch's global stream
unless a generator is given.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, normalize

from burnish.training.config import ViewsConfig

# What red, green and blue add to brightness (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def contrastive_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""Return NT-Xent (Chen et al. 2020, equation 1), the mean over all 2N views.

    Each view :math:`i` has to find the other view :math:`j` of its image among the 2N - 1 views
    that are not itself:

    .. math:: -\log \frac{\exp(\cos(z_i, z_j) / \tau)}{\sum_{k \ne i} \exp(\cos(z_i, z_k) / \tau)}

    Args:
        first: ``[N, D]``, projections of one view of each image.
        second: ``[N, D]``, of the other view, in the same order.
        temperature: :math:`\tau`, above 0.
    """
    count = len(first)
    views = normalize(torch.cat([first, second]), dim=1)
    scores = (views @ views.T / temperature).fill_diagonal_(-math.inf)
    pairs = torch.arange(2 * count, device=scores.device).roll(count)
    return cross_entropy(scores, pairs)


def matched(first: Tensor, second: Tensor) -> float:
    """Return the share of images whose other view is the nearest by cosine among all others'."""
    nearest = (normalize(first, dim=1) @ normalize(second, dim=1).T).argmax(1)
    return (nearest == torch.arange(len(first), device=first.device)).double().mean().item()


def random_views(
    images: Tensor, config: ViewsConfig, mirror: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Return one random view of each image, ``[B, C, H, W]`` in [0, 1] with C of 1 or 3.

    A crop of random area and of a ratio of sides between 3/4 and 4/3 (log-uniform), resized to the
    full size, and mirrored left to right with probability 1/2 if ``mirror``; then new colors, for
    gray images brightness and contrast alone.
    """

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(images), generator=generator)

    area, ratio = draw(config.min_area, 1), draw(math.log(3 / 4), math.log(4 / 3)).exp()
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1)
    centers = torch.stack([draw(-1, 1), draw(-1, 1)], 1) * (1 - sides)
    views = crop(images, centers, sides, mirrored=draw(0, 1) < 0.5 * mirror)

    touched = (draw(0, 1) < config.recolored).float()
    brightness, contrast, saturation = (
        1 + touched * draw(-config.jitter, config.jitter) for _ in range(3)
    )
    hue = 2 * math.pi * touched * draw(-config.hue, config.hue)
    saturation = saturation * (draw(0, 1) >= config.gray)
    return recolor(views, brightness, contrast, saturation, hue)


def crop(images: Tensor, centers: Tensor, sides: Tensor, mirrored: Tensor) -> Tensor:
    """Cut a box out of each image and resize it to the size of the whole, bilinearly.

    Args:
        images: ``[B, C, H, W]``.
        centers: ``[B, 2]``, x and y of each box; the image spans [-1, 1] in both.
        sides: ``[B, 2]``, width and height of each box as shares of the image's.
        mirrored: ``[B]`` bool, left to right.
    """
    scales = sides * torch.stack([1 - 2 * mirrored.float(), torch.ones(len(sides))], 1)
    boxes = torch.cat([torch.diag_embed(scales), centers[:, :, None]], 2).to(images)
    grid = affine_grid(boxes, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def recolor(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
) -> Tensor:
    r"""Return images with new colors, clamped to [0, 1].

    All four changes are linear in a pixel's color :math:`x`, hence one matrix per image:

    .. math:: b (c H S x + (1 - c) m),\quad S = s I + (1 - s) 1 w^T

    with :math:`w` the shares of the channels in brightness, :math:`m` the image's mean brightness,
    and :math:`H` the rotation by ``hue`` about the axis of grays.

    Args:
        images: ``[B, C, H, W]``; with C of 1, saturation and hue have nothing to change.
        brightness: b, ``[B]``; 1 changes nothing.
        contrast: c, ``[B]``; 1 changes nothing, 0 leaves the mean alone.
        saturation: s, ``[B]``; 1 changes nothing, 0 makes the image gray.
        hue: ``[B]``, an angle in radians; a third of a turn moves red to green.
    """
    brightness, contrast, saturation, hue = (
        value.to(images).view(-1, 1, 1) for value in (brightness, contrast, saturation, hue)
    )
    channels = images.shape[1]
    weights = torch.tensor(LUMA if channels == 3 else (1.0,)).to(images)
    identity, pixels = torch.eye(channels).to(images), images.flatten(2)
    mixed = saturation * identity + (1 - saturation) * weights
    if channels == 3:  # turn about (1, 1, 1), by Rodrigues' formula
        onto = torch.full_like(identity, 1 / 3)
        across = (identity.roll(1, 0) - identity.roll(-1, 0)) / math.sqrt(3)
        mixed = (onto + hue.cos() * (identity - onto) + hue.sin() * across) @ mixed
    mean = (weights @ pixels).mean(1).view(-1, 1, 1)
    pixels = brightness * (contrast * (mixed @ pixels) + (1 - contrast) * mean)
    return pixels.view_as(images).clamp(0, 1)
