"""Networks that read an image beside a decoder: the encoder of a VAE, the discriminator of a GAN.

Both are stacks of residual blocks that halve the resolution, as in Miyato et al. 2018, "Spectral
Normalization for Generative Adversarial Networks", figures 9, 10, https://arxiv.org/abs/1802.05957.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Encoder(nn.Module):
    """The approximate posterior of a VAE, a diagonal Gaussian for each image and label.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of classes.
        image_size: Height and width; divisible by 2 ** (len(widths) - 1).
        latent_size: Numbers per latent, L.
        widths: Channels at each resolution, full size first.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        latent_size: int,
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.blocks = _blocks(in_channels, widths, normalize=True)
        side = image_size >> (len(widths) - 1)
        self.label = nn.Embedding(num_classes, widths[-1])
        self.head = nn.Linear(widths[-1] * side**2, 2 * latent_size)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and log variance, ``[B, L]``; images are in [0, 1]."""
        hidden = self.blocks(images * 2 - 1) + self.label(labels)[:, :, None, None]
        mean, log_variance = self.head(torch.relu(hidden).flatten(1)).float().chunk(2, 1)
        # Wider than any useful posterior; keeps exp finite in the first steps.
        return mean, log_variance.clamp(-12, 4)


class Discriminator(nn.Module):
    r"""A spectrally normalized projection discriminator.

    .. math:: D(x, y) = v^T \phi(x) + b + e_y^T \phi(x)

    Miyato & Koyama 2018, "cGANs with Projection Discriminator", equation 5,
    https://arxiv.org/abs/1802.05637. The largest singular value of every weight matrix, embeddings
    included, is 1 (Miyato et al. 2018, equation 8).

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of classes.
        widths: Channels at each resolution, full size first.
    """

    def __init__(self, in_channels: int, num_classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = _blocks(in_channels, widths, normalize=False)
        self.head = nn.Linear(widths[-1], 1)
        self.label = nn.Embedding(num_classes, widths[-1])
        for module in list(self.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                spectral_norm(module)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return realness ``[B]``, high for images that look real and of their class."""
        features = torch.relu(self.blocks(images * 2 - 1)).sum((2, 3))
        return self.head(features)[:, 0] + (self.label(labels) * features).sum(1)


def _blocks(in_channels: int, widths: Sequence[int], normalize: bool) -> nn.Sequential:
    """Return one block per width; all but the last halve the resolution."""
    last = len(widths) - 1
    pairs = enumerate(pairwise([in_channels, *widths]))
    return nn.Sequential(*(_DownBlock(*pair, i == 0, i < last, normalize) for i, pair in pairs))


class _DownBlock(nn.Module):
    """Two convolutions beside a 1 x 1 one, then the mean of 2 x 2 pixels."""

    def __init__(self, before: int, after: int, first: bool, halve: bool, normalize: bool) -> None:
        super().__init__()

        def active(width: int) -> nn.Module:
            return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()) if normalize else nn.ReLU()

        self.residual = nn.Sequential(
            # An activation of the pixels themselves would discard half of them.
            nn.Identity() if first else active(before),
            nn.Conv2d(before, after, 3, padding=1),
            active(after),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.halve = nn.AvgPool2d(2) if halve else nn.Identity()
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        # Averaging commutes with a 1 x 1 convolution and is cheaper before it.
        return self.halve(self.residual(hidden)) + self.shortcut(self.halve(hidden))
