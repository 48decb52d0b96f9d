"""One Gaussian per class, with the mean and covariance of the real images.

Santurkar et al. 2019, "Image Synthesis with a Single (Robust) Classifier", section 3.1,
https://arxiv.org/abs/1906.09453, draw from it the start images that a robust classifier refines.
"""

from typing import Self

import torch
from torch import Tensor, nn

from burnish.networks.sizes import Channels, Classes, Latents, Side


class Gaussian(nn.Module):
    r"""Map latents and labels to images.

    .. math:: x = \mu_y + \sum_j z_j \sqrt{\lambda_j} v_j

    Each class has its own mean :math:`\mu_y`. All share one covariance, of which the
    ``latent_size`` eigenvectors :math:`v_j` of largest eigenvalue :math:`\lambda_j` are kept.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of classes, K.
        image_size: Height and width.
        latent_size: Number of directions kept, L; at most the number of values of an image.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        image_size: Side,
        latent_size: Latents = 128,
    ) -> None:
        super().__init__()
        self.image_shape = (in_channels, image_size, image_size)
        self.num_classes, self.latent_size = num_classes, latent_size
        num_values = in_channels * image_size**2
        if not 1 <= latent_size <= num_values:
            raise ValueError(f"latent_size must be 1 .. {num_values}, not {latent_size}")
        self.means = nn.Parameter(torch.zeros(num_classes, num_values), requires_grad=False)
        self.basis = nn.Parameter(torch.zeros(latent_size, num_values), requires_grad=False)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return images ``[B, C, H, W]`` clamped to [0, 1] of latents ``[B, L]``."""
        values = self.means[labels] + latents @ self.basis
        return values.view(-1, *self.image_shape).clamp(0, 1)

    @torch.no_grad()
    def fit(self, images_uint8: Tensor, labels: Tensor) -> Self:
        """Set means and basis from real images ``[N, C, H, W]`` of every class, labels ``[N]``."""
        counts = torch.bincount(labels, minlength=self.num_classes)
        if not bool(counts.all()):
            raise ValueError(f"there is no image of class {int(counts.argmin())}")
        values = images_uint8.flatten(1).float().div_(255)
        sums = torch.zeros_like(self.means).index_add_(0, labels, values)
        self.means.copy_(sums / counts[:, None])
        values -= self.means[labels]
        variances, directions = torch.linalg.eigh(values.T @ values / len(values))
        largest = slice(-self.latent_size, None)
        self.basis.copy_((directions[:, largest] * variances[largest].clamp(min=0).sqrt()).T)
        return self
