"""Numbers for traits that images may have for other reasons than what they show.

Each function takes images ``[N, C, H, W]`` uint8. They are compared in
:mod:`burnish.studies.checkup.shortcuts`.
"""

import torch
from torch import Tensor

from burnish.ascent.spectrum import dct_basis


def luma(images_uint8: Tensor) -> Tensor:
    """Return the brightness ``[N, H, W]`` by the weights of JPEG (ITU-R BT.601), 0 .. 255."""
    images = images_uint8.float()
    if images.shape[1] == 1:
        return images[:, 0]
    return torch.einsum("nchw,c->nhw", images, images.new_tensor([0.299, 0.587, 0.114]))


def block_grid(images_uint8: Tensor) -> float:
    """Return how much the images keep to a grid of 8x8 blocks, 0 .. 1.

    JPEG rounds the DCT coefficients of each block, at high frequencies mostly to 0. The share of
    high-frequency coefficients below one level is therefore highest where blocks are cut as JPEG
    cut them. What is returned is that share minus the second highest of the 64 ways to cut, so
    that smooth images do not count. CIFAR-10: 0.005; at JPEG quality 95, 0.33. Fashion-MNIST:
    0.01; at quality 95, 0.14. Images smaller than 15 pixels give 0.
    """
    # A corner of large images is enough.
    brightness = luma(images_uint8)[:, :71, :71]
    height, width = ((size - 7) // 8 * 8 for size in brightness.shape[1:])
    if height < 8 or width < 8:
        return 0.0
    matrix, places = dct_basis(8).float(), torch.arange(8)
    high = places[:, None] + places >= 8
    shares = []
    for top in range(8):
        for left in range(8):
            part = brightness[:, top : top + height, left : left + width]
            blocks = part.unfold(1, 8, 8).unfold(2, 8, 8)
            small = (matrix @ blocks @ matrix.T)[..., high].abs() < 1
            shares.append(small.float().mean().item())
    second, first = sorted(shares)[-2:]
    return first - second


def high_frequencies(images_uint8: Tensor) -> float:
    """Return the share of energy at the highest quarter of frequencies, without the mean.

    Enlarging an image by interpolation adds none: CIFAR-10 has 0.0092; halved and enlarged again,
    0.00016. A blur of a standard deviation of 0.6 pixels leaves 0.0012.
    """
    brightness = luma(images_uint8)
    height, width = brightness.shape[1:]
    over_rows, over_columns = (dct_basis(size).float() for size in (height, width))
    energy = (over_rows @ brightness @ over_columns.T).square().mean(0)
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    energy[0, 0] = 0
    high = torch.maximum(rows[:, None], columns) >= 0.75
    return (energy[high].sum() / energy.sum().clamp(min=1e-12)).item()


def repeats(images_uint8: Tensor) -> float:
    """Return the share of images with a row or column that equals the next and is not constant.

    Enlarging by repeating pixels makes such rows, and so does padding with the outermost row.
    """
    found = torch.zeros(len(images_uint8), dtype=torch.bool)
    for images in (images_uint8, images_uint8.transpose(2, 3)):
        varies = (images.amax(3) != images.amin(3)).any(1)[:, 1:]
        same = (images[:, :, 1:] == images[:, :, :-1]).all(3).all(1)
        found |= (same & varies).any(1)
    return found.float().mean().item()


def constant_border(images_uint8: Tensor) -> float:
    """Return the share of images with a constant outermost row or column, at the side with most.

    Constant is what spans four levels or fewer. Two thirds of Fashion-MNIST have such a column.
    """
    images = images_uint8.int()
    edges = images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]
    spans = [(edge.amax(2) - edge.amin(2)).amax(1) for edge in edges]
    return max((span <= 4).float().mean().item() for span in spans)


def gray(images_uint8: Tensor) -> float:
    """Return the share of images whose channels differ by four levels at most."""
    if images_uint8.shape[1] == 1:
        return 1.0
    images = images_uint8.int()
    spans = (images.amax(1) - images.amin(1)).flatten(1).amax(1)
    return (spans <= 4).float().mean().item()


def outside_video_range(images_uint8: Tensor) -> float:
    """Return the share of values outside 16 .. 235, the range of video."""
    return ((images_uint8 < 16) | (images_uint8 > 235)).float().mean().item()


def clipped(images_uint8: Tensor) -> float:
    """Return the share of values at 0 or 255, whichever is larger."""
    return max((images_uint8 == end).float().mean().item() for end in (0, 255))


def num_levels(images_uint8: Tensor) -> float:
    """Return how many of the 256 levels occur."""
    return float(len(images_uint8.unique()))
