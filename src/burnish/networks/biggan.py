"""The generator of BigGAN-PyTorch, and of DiffAugment-BigGAN, which has the same files.

Brock et al. 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", appendix
B, https://arxiv.org/abs/1809.11096; Zhao et al. 2020, "Differentiable Augmentation for
Data-Efficient GAN Training", https://arxiv.org/abs/2006.10738. Names of tensors are those of the
files, in which weights are still to be divided by their spectral norms.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from burnish.networks.sizes import Classes, Latents, Side, Width, Widths


class BigGAN(nn.Module):
    """Map latents and labels to images.

    Args:
        num_classes: Number of classes, K.
        latent_size: Numbers per latent, L.
        widths: Channels at each resolution, the lowest first; each next one doubles it.
        bottom: Height and width of the lowest resolution.
        shared_size: Size of one embedding of the labels that all norms read; None where each norm
            has embeddings of its own.
        hierarchical: Whether each block reads a part of the latent, beside the labels.
        attention: Blocks that self-attention follows, from 0.
    """

    def __init__(
        self,
        num_classes: Classes,
        latent_size: Latents = 128,
        widths: Widths = (256, 256, 256, 256),
        bottom: Side = 4,
        shared_size: Width | None = None,
        hierarchical: bool = False,
        attention: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        num_blocks = len(widths) - 1
        if not 1 <= num_blocks <= 9:
            raise ValueError("a BigGAN has 1 to 9 blocks")
        side = bottom << num_blocks
        self.image_shape = (3, side, side)
        self.num_classes, self.latent_size = num_classes, latent_size
        self.start_shape = (widths[0], bottom, bottom)
        self.part = latent_size // (num_blocks + 1) if hierarchical else latent_size
        if hierarchical and (shared_size is None or self.part * (num_blocks + 1) != latent_size):
            raise ValueError("a hierarchical latent is in equal parts, beside a shared embedding")
        self.shared = None if shared_size is None else nn.Embedding(num_classes, shared_size)
        condition = None if shared_size is None else shared_size + self.part * hierarchical
        self.hierarchical = hierarchical
        self.linear = nn.Linear(self.part, widths[0] * bottom**2)
        self.blocks = nn.ModuleList()
        for place, (before, after) in enumerate(pairwise(widths)):
            block = [_Block(before, after, num_classes, condition)]
            self.blocks.append(
                nn.ModuleList([*block, Attention(after)] if place in attention else block)
            )
        last = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.output_layer = nn.Sequential(_PlainNorm(widths[-1]), nn.ReLU(), last)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return images ``[B, 3, H, W]`` in [0, 1] of latents ``[B, L]`` and labels ``[B]``."""
        first, *others = latents.split(self.part, 1)
        shared = labels if self.shared is None else self.shared(labels)
        hidden = self.linear(first).view(-1, *self.start_shape)
        for place, blocks in enumerate(self.blocks):
            given = torch.cat([shared, others[place]], 1) if self.hierarchical else shared
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                hidden = block(hidden, given)
        return torch.tanh(self.output_layer(hidden).float()) / 2 + 0.5


class Attention(nn.Module):
    """Self-attention whose keys and values are of half the resolution, with a learned weight.

    Zhang et al. 2019, "Self-Attention Generative Adversarial Networks",
    https://arxiv.org/abs/1805.08318, as BigGAN has it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 8:
            raise ValueError("attention needs 8 channels or more")
        self.theta, self.phi = (nn.Conv2d(width, width // 8, 1, bias=False) for _ in range(2))
        self.g = nn.Conv2d(width, width // 2, 1, bias=False)
        self.o = nn.Conv2d(width // 2, width, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor, *_: Any) -> Tensor:
        """Return features ``[B, C, H, W]`` of the same shape; further inputs go unused."""
        query = self.theta(hidden).flatten(2).transpose(1, 2)
        key, value = (F.max_pool2d(part(hidden), 2).flatten(2) for part in (self.phi, self.g))
        weights = (query @ key).softmax(-1)
        found = (value @ weights.transpose(1, 2)).unflatten(2, hidden.shape[2:])
        return self.gamma * self.o(found) + hidden


class _Block(nn.Module):
    def __init__(self, before: int, after: int, num_classes: int, condition: int | None) -> None:
        super().__init__()
        self.bn1 = _Norm(before, num_classes, condition)
        self.bn2 = _Norm(after, num_classes, condition)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.conv_sc = nn.Conv2d(before, after, 1)

    def forward(self, hidden: Tensor, given: Tensor) -> Tensor:
        residual = F.interpolate(torch.relu(self.bn1(hidden, given)), scale_factor=2)
        residual = self.conv2(torch.relu(self.bn2(self.conv1(residual), given)))
        return residual + self.conv_sc(F.interpolate(hidden, scale_factor=2))


class _PlainNorm(nn.Module):
    """Batch norm by stored statistics, with a gain and a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("stored_mean", torch.zeros(width))
        self.register_buffer("stored_var", torch.ones(width))

    def forward(self, hidden: Tensor) -> Tensor:
        mean, var = self.get_buffer("stored_mean"), self.get_buffer("stored_var")
        return F.batch_norm(hidden, mean, var, self.gain, self.bias)


class _Norm(nn.Module):
    """Batch norm by stored statistics; gain, less 1, and bias are of the label."""

    def __init__(self, width: int, num_classes: int, condition: int | None) -> None:
        super().__init__()

        def reader() -> nn.Module:
            if condition is None:
                return nn.Embedding(num_classes, width)
            return nn.Linear(condition, width, bias=False)

        self.gain, self.bias = reader(), reader()
        self.register_buffer("stored_mean", torch.zeros(width))
        self.register_buffer("stored_var", torch.ones(width))

    def forward(self, hidden: Tensor, given: Tensor) -> Tensor:
        mean, var = self.get_buffer("stored_mean"), self.get_buffer("stored_var")
        gain, bias = (read(given)[:, :, None, None] for read in (self.gain, self.bias))
        return F.batch_norm(hidden, mean, var) * (1 + gain) + bias
