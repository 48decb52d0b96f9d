"""The network from a latent and a label to an image: decoder of a VAE, generator of a GAN.

Residual blocks double the resolution; each batch norm has a gain and a bias per class. Sources:
Miyato & Koyama 2018, "cGANs with Projection Discriminator", appendix,
https://arxiv.org/abs/1802.05637; Miyato et al. 2018, "Spectral Normalization for Generative
Adversarial Networks", figure 10, https://arxiv.org/abs/1802.05957.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    """Map latents and labels to images.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of classes, K.
        image_size: Height and width; divisible by 2 ** (len(widths) - 1).
        latent_size: Numbers per latent, L.
        widths: Channels at each resolution, the lowest resolution first; each next one doubles it.

    Raises:
        ValueError: The image size cannot be halved so often.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        latent_size: int = 128,
        widths: Sequence[int] = (128, 64, 32),
    ) -> None:
        doublings = len(widths) - 1
        if doublings < 0 or image_size % 2**doublings:
            raise ValueError(f"{image_size} pixels cannot be halved {doublings} times")
        super().__init__()
        self.image_shape = (in_channels, image_size, image_size)
        self.num_classes, self.latent_size = num_classes, latent_size
        self.start_shape = (widths[0], image_size >> doublings, image_size >> doublings)
        self.start = nn.Linear(latent_size, widths[0] * self.start_shape[1] ** 2)
        self.blocks = nn.ModuleList(
            _UpBlock(before, after, num_classes) for before, after in pairwise(widths)
        )
        self.norm = _ClassNorm(widths[-1], num_classes)
        self.last = nn.Conv2d(widths[-1], in_channels, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return images ``[B, C, H, W]`` in [0, 1] of latents ``[B, L]`` and labels ``[B]``."""
        hidden = self.start(latents).view(-1, *self.start_shape)
        for block in self.blocks:
            hidden = block(hidden, labels)
        hidden = self.last(torch.relu(self.norm(hidden, labels)))
        # In float32: bfloat16 levels near white are 1/256 apart.
        return torch.sigmoid(hidden.float())


class _ClassNorm(nn.Module):
    """A gain and a bias per class: Dumoulin et al. 2017, https://arxiv.org/abs/1610.07629."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.gain = nn.Embedding(num_classes, width)
        self.bias = nn.Embedding(num_classes, width)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, hidden: Tensor, labels: Tensor) -> Tensor:
        gain, bias = self.gain(labels), self.bias(labels)
        return self.norm(hidden) * gain[:, :, None, None] + bias[:, :, None, None]


class _UpBlock(nn.Module):
    def __init__(self, before: int, after: int, num_classes: int) -> None:
        super().__init__()
        self.norm1 = _ClassNorm(before, num_classes)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = _ClassNorm(after, num_classes)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)
        self.upsample = nn.Upsample(scale_factor=2)

    def forward(self, hidden: Tensor, labels: Tensor) -> Tensor:
        residual = self.conv1(self.upsample(torch.relu(self.norm1(hidden, labels))))
        residual = self.conv2(torch.relu(self.norm2(residual, labels)))
        # A 1 x 1 convolution commutes with nearest-neighbor doubling and is cheaper before it.
        return residual + self.upsample(self.shortcut(hidden))
