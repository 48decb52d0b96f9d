"""Second-order statistics of images by frequency, and the linear filters that follow from them.

Images are taken to be a stationary random field: their values at different frequencies of the
discrete cosine transform (DCT) are uncorrelated, those of the color channels at one frequency are
not. A **spectrum** holds, for each frequency, the second moment ``E[f f^T]`` of the channels, as a
tensor ``[H, W, C, C]``. Real images have most of it at low frequencies and in luminance.

A **filter** multiplies the channels at each frequency by a matrix. Two of them matter here:

* the *preconditioner* ``P = R^(1/2)``, with ``R`` the spectrum of real images. For a gradient
  ``g``, the step along ``P g`` raises the objective most among steps of equal ``d^T P^(-1) d``.
  Among steps of equal L2 length that is ``g`` itself, which spends most of its length on fine
  grain, since L2 charges all frequencies alike; by the Mahalanobis distance of real images it is
  ``R g``, which hardly moves anything but broad patches. ``P`` lies half way between the two.
* the *transport* from generated to real images, the map of least squared distance that turns the
  one spectrum into the other: ``A = G^(-1/2) (G^(1/2) R G^(1/2))^(1/2) G^(-1/2)``. Peyre & Cuturi
  2019, "Computational Optimal Transport", remark 2.31, https://arxiv.org/abs/1803.00567.

Neither touches the mean color of an image: mean colors are far from Gaussian.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class Filter:
    """A linear map of images that acts on each frequency of the DCT by itself.

    Args:
        matrices: ``[H, W, C, C]``, what the channels at each frequency are multiplied by.
    """

    def __init__(self, matrices: Tensor) -> None:
        self.matrices = matrices
        # In the order in which the product with [B, C, H, W] wants it.
        self._by_channel = matrices.permute(2, 3, 0, 1).contiguous()
        self._rows, self._columns = (dct_basis(size).to(matrices) for size in matrices.shape[:2])

    def __call__(self, images: Tensor) -> Tensor:
        """Return filtered images ``[B, C, H, W]``, not clamped."""
        frequencies = self._rows @ images @ self._columns.T
        filtered = (self._by_channel * frequencies[:, None]).sum(2)
        return self._rows.T @ filtered @ self._columns

    def to(self, device: torch.device | str) -> "Filter":
        """Return the filter on a device."""
        return Filter(self.matrices.to(device))


def dct_basis(size: int) -> Tensor:
    """Return the orthonormal DCT-II ``[size, size]``, float64; one frequency per row."""
    places = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * torch.outer(places, places + 0.5)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def measure_spectrum(batches: Iterable[Tensor]) -> Tensor:
    """Return the spectrum ``[H, W, C, C]`` of images, float32.

    Args:
        batches: Images ``[B, C, H, W]`` in [0, 1], at least one in all.
    """
    total, count = torch.zeros(()), 0
    for images in batches:
        rows, columns = (dct_basis(size).to(images.device) for size in images.shape[2:])
        frequencies = rows @ images.double() @ columns.T
        total = total + torch.einsum("bihw,bjhw->hwij", frequencies, frequencies).cpu()
        count += len(images)
    return (total / count).float()


def preconditioner(real: Tensor) -> Filter:
    """Return the square root of the spectrum of real images, 0 for the mean color.

    It is scaled to keep the length of white noise on average, since only its shape matters.

    Args:
        real: ``[H, W, C, C]``.
    """
    root = _power(real.double(), 0.5)
    root[0, 0] = 0
    return Filter((root / root.square().sum((2, 3)).mean().div(len(root[0, 0])).sqrt()).float())


def transport(generated: Tensor, real: Tensor) -> Filter:
    """Return the filter that gives images the spectrum of real ones, 1 for the mean color.

    Args:
        generated: ``[H, W, C, C]``, the spectrum of the images that are to be filtered.
        real: ``[H, W, C, C]``.
    """
    source, target = generated.double(), real.double()
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    matrices = inverse @ _power(root @ target @ root, 0.5) @ inverse
    matrices[0, 0] = torch.eye(matrices.shape[2])
    return Filter(matrices.float())


def _power(matrices: Tensor, exponent: float) -> Tensor:
    """Return powers of symmetric matrices; what is nearly singular is taken for barely regular."""
    values, vectors = torch.linalg.eigh(matrices)
    values = values.clamp(min=1e-12)  # levels of 1 / 255 have a variance of 1e-6 by rounding alone
    return (vectors * values.pow(exponent)[..., None, :]) @ vectors.mT
