"""The networks of VAEs and GANs: decoder (the generator of a GAN), encoder, discriminator.

All are stacks of residual blocks that double or halve the resolution. Sources: Miyato & Koyama
2018, "cGANs with Projection Discriminator", appendix, https://arxiv.org/abs/1802.05637; Miyato et
al. 2018, "Spectral Normalization for Generative Adversarial Networks", figures 9, 10,
https://arxiv.org/abs/1802.05957.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from burnish.networks.sizes import Channels, Classes, Latents, Side, Widths


class Decoder(nn.Module):
    """Map latents and labels to images; each batch norm has a gain and a bias per class.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of classes, K; None for images without.
        image_size: Height and width; divisible by 2 ** (len(widths) - 1).
        latent_size: Numbers per latent, L.
        widths: Channels at each resolution, the lowest resolution first; each next one doubles it.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes | None,
        image_size: Side,
        latent_size: Latents = 128,
        widths: Widths = (128, 64, 32),
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
            _UpBlock(before, after, num_classes or 1) for before, after in pairwise(widths)
        )
        self.norm = _ClassNorm(widths[-1], num_classes or 1)
        self.last = nn.Conv2d(widths[-1], in_channels, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Return images ``[B, C, H, W]`` in [0, 1] of latents ``[B, L]`` and labels ``[B]``."""
        if self.num_classes is None or labels is None:  # all are of the one class that norms have
            labels = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        hidden = self.start(latents).view(-1, *self.start_shape)
        for block in self.blocks:
            hidden = block(hidden, labels)
        hidden = self.last(torch.relu(self.norm(hidden, labels)))
        # In float32: bfloat16 levels near white are 1/256 apart.
        return torch.sigmoid(hidden.float())


class Encoder(nn.Module):
    """The approximate posterior of a VAE, a diagonal Gaussian for each image and label.

    The arguments are those of :class:`Decoder`, but ``widths`` begins with the full size.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes | None,
        image_size: Side,
        latent_size: Latents,
        widths: Widths,
    ) -> None:
        super().__init__()
        self.blocks = _blocks(in_channels, widths, normalize=True)
        side = image_size >> (len(widths) - 1)
        self.label = None if num_classes is None else nn.Embedding(num_classes, widths[-1])
        self.head = nn.Linear(widths[-1] * side**2, 2 * latent_size)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and log variance, ``[B, L]``; images are in [0, 1]."""
        hidden = self.blocks(images * 2 - 1)
        if self.label is not None:
            hidden = hidden + self.label(labels)[:, :, None, None]
        mean, log_variance = self.head(torch.relu(hidden).flatten(1)).float().chunk(2, 1)
        # Wider than any useful posterior; keeps exp finite in the first steps.
        return mean, log_variance.clamp(-12, 4)


class Discriminator(nn.Module):
    r"""A discriminator; by default a spectrally normalized projection discriminator.

    .. math:: D(x, y) = v^T \phi(x) + b + e_y^T \phi(x)

    Miyato & Koyama 2018, "cGANs with Projection Discriminator", equation 5,
    https://arxiv.org/abs/1802.05637. With ``spectral``, the largest singular value of every weight
    matrix, embeddings included, is 1 (Miyato et al. 2018, equation 8). With ``concat``, labels are
    K further channels of the images, of which one is 1 (Mirza & Osindero 2014,
    https://arxiv.org/abs/1411.1784).

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of classes, K; None for images without.
        widths: Channels, full size first.
        labels: ``projection`` or ``concat``.
        normalize: ``spectral``, ``batch`` or ``none``.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes | None,
        widths: Sequence[int],
        labels: str = "projection",
        normalize: str = "spectral",
    ) -> None:
        super().__init__()
        self.num_planes = (num_classes or 0) if labels == "concat" else 0
        self.blocks = _blocks(in_channels + self.num_planes, widths, normalize == "batch")
        self.head = nn.Linear(widths[-1], 1)
        self.label = None
        if num_classes is not None and labels == "projection":
            self.label = nn.Embedding(num_classes, widths[-1])
        for module in list(self.modules()):
            of_weights = isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding)
            if normalize == "spectral" and of_weights:
                spectral_norm(module)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return realness ``[B]``, high for images that look real and of their class."""
        inputs = images * 2 - 1
        if self.num_planes:
            planes = nn.functional.one_hot(labels, self.num_planes).to(inputs.dtype)
            shape = (-1, -1, *inputs.shape[2:])
            inputs = torch.cat([inputs, planes[:, :, None, None].expand(shape)], 1)
        features = torch.relu(self.blocks(inputs)).sum((2, 3))
        realness = self.head(features)[:, 0]
        return (
            realness if self.label is None else realness + (self.label(labels) * features).sum(1)
        )


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


def _blocks(in_channels: int, widths: Widths, normalize: bool) -> nn.Sequential:
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
