"""What a guide's gradient looks like: how smooth it is, and whether it points at real images.

The gradients of a robust classifier look meaningful to people, those of a standard one like noise
(Tsipras et al. 2019, "Robustness May Be at Odds with Accuracy", section 3,
https://arxiv.org/abs/1805.12152). Two numbers measure this. The share of low frequencies: white
noise has equal energy at all frequencies, outlines and surfaces have theirs at low ones. The
cosine to the direction of the nearest real image of the class: random directions in pixel space
have cosines of about 0, to within 1 / sqrt(C H W).
"""

import torch
from torch import Tensor

from burnish.ascent.step import value_and_gradient
from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.samples import from_uint8

__all__ = [
    "cosine", "logit_gradient", "low_frequencies", "low_frequency_share", "toward_nearest",
]  # fmt: skip


def logit_gradient(guide: Guide, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of f_y with respect to each image, ``[B, C, H, W]``.

    Args:
        guide: In eval mode.
        images: ``[B, C, H, W]`` in [0, 1].
        labels: ``[B]``, y.
    """
    return value_and_gradient(guide.objective("logit"), images, labels)[0]


def low_frequencies(height: int, width: int, cutoff: float) -> Tensor:
    """Return which frequencies of ``torch.fft.fft2`` count as low, ``[H, W]`` bool.

    They are those of radius sqrt(u^2 + v^2) <= cutoff / 2, with u and v in cycles per pixel,
    between -1/2 and 1/2 (Nyquist); frequency 0 is among them. White noise has equal energy at each
    frequency, so its expected share is the mean of this mask.

    Args:
        height: H.
        width: W.
        cutoff: Largest radius as a share of Nyquist's frequency.
    """
    rows, columns = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    squares = rows[:, None] ** 2 + columns[None, :] ** 2
    return squares <= (cutoff / 2) ** 2 + 1e-12


def low_frequency_share(gradients: Tensor, cutoff: float = 0.25) -> Tensor:
    """Return the share of each gradient's energy at low frequencies, ``[B]`` in [0, 1].

    Energy is |F|^2, with F the 2-D Fourier transform of each channel, summed over channels.
    See :func:`low_frequencies` for which are low. A gradient of 0 has the share 0.

    Args:
        gradients: ``[B, C, H, W]``.
        cutoff: Largest radius as a share of Nyquist's frequency.
    """
    # In float64, because the square of a small gradient underflows in float32.
    energy = torch.fft.fft2(gradients.double()).abs().square().sum(1)
    height, width = gradients.shape[2:]
    low = low_frequencies(height, width, cutoff).to(energy.device)
    total = energy.sum((1, 2))
    share = (energy * low).sum((1, 2)) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return share.float()


def toward_nearest(
    images: Tensor, labels: Tensor, real_uint8: Tensor, real_labels: Tensor
) -> Tensor:
    """Return the difference to each image's nearest real one of its class, ``[B, C, H, W]``.

    Nearest by the L2 distance in pixels.

    Args:
        images: ``[B, C, H, W]`` in [0, 1].
        labels: ``[B]``.
        real_uint8: ``[N, C, H, W]`` uint8, converted to float one class at a time.
        real_labels: ``[N]``.

    Raises:
        InputError: There is no real image of a class.
    """
    differences = torch.empty_like(images)
    for label in labels.unique().tolist():
        rows, bank = labels == label, real_uint8[(real_labels == label).cpu()]
        if not len(bank):
            raise InputError(f"there is no real image of class {label} to be nearest")
        real = from_uint8(bank).to(images)
        nearest = torch.cdist(images[rows].flatten(1), real.flatten(1)).argmin(1)
        differences[rows] = real[nearest] - images[rows]
    return differences


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between two directions for each image, ``[B]``; 0 where one is 0.

    Args:
        first: ``[B, C, H, W]``.
        second: ``[B, C, H, W]``.
    """
    first, second = first.double().flatten(1), second.double().flatten(1)
    lengths = first.norm(dim=1) * second.norm(dim=1)
    return ((first * second).sum(1) / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)).float()
