"""The generator BigGAN-deep, as pytorch-pretrained-BigGAN has it.

Brock et al. 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", appendix
B, https://arxiv.org/abs/1809.11096. Names of tensors are those of the files, in which weights are
still to be divided by their spectral norms.
"""

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from burnish.errors import InputError
from burnish.networks.biggan import Attention
from burnish.networks.sizes import Classes, Latents, Width, Widths

EPS = 1e-4


class BigGANDeep(nn.Module):
    """Map latents and labels to images.

    Args:
        num_classes: Number of classes, K.
        latent_size: Numbers per latent, L, and per embedding of a label.
        widths: Channels before the first block and after each one; every second block doubles the
            resolution, which begins with 4 x 4.
        attention: The block that self-attention comes before, from 0; None for none.
        num_stats: Truncations between 0 and 1 that batch norms have statistics for.
    """

    def __init__(
        self,
        num_classes: Classes = 1000,
        latent_size: Latents = 128,
        widths: Widths = (2048, 2048, 2048, 1024, 1024, 512, 512, 256, 256, 128),
        attention: int | None = None,
        num_stats: Width = 51,
    ) -> None:
        super().__init__()
        if not 2 <= len(widths) <= 20 or num_stats < 2:
            raise ValueError("a BigGAN-deep has 1 to 19 blocks, and statistics for 2 truncations")
        side = 4 << ((len(widths) - 1) // 2)
        self.image_shape = (3, side, side)
        self.num_classes, self.latent_size = num_classes, latent_size
        self.truncation, self.num_stats = 1.0, num_stats
        self.embeddings = nn.Linear(num_classes, latent_size, bias=False)
        self.generator = nn.Module()
        self.generator.gen_z = nn.Linear(2 * latent_size, 16 * widths[0])
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(widths)):
            if place == attention:
                layers.append(Attention(before))
            layers.append(_Block(before, after, 2 * latent_size, place % 2 == 1, num_stats))
        self.generator.layers = nn.ModuleList(layers)
        self.generator.bn = _Norm(widths[-1], None, num_stats)
        self.generator.conv_to_rgb = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)

    def truncate(self, truncation: float) -> None:
        """Draw latents from [-2 t, 2 t], with the batch norm statistics of t.

        Raises:
            InputError: t is not in (0, 1].
        """
        if not 0 < truncation <= 1:
            raise InputError(f"truncation must be above 0 and at most 1, not {truncation}")
        self.truncation = truncation

    def latents(self, noise: Tensor) -> Tensor:
        r"""Return latents ``[B, L]``, t times a normal number that is truncated to [-2, 2].

        .. math:: t \, \Phi^{-1}(\Phi(-2) + \Phi(n) (\Phi(2) - \Phi(-2)))

        Args:
            noise: Standard normal numbers n.
        """
        low, high = (torch.special.ndtr(noise.new_tensor(end).double()) for end in (-2.0, 2.0))
        share = low + torch.special.ndtr(noise.double()) * (high - low)
        return (self.truncation * torch.special.ndtri(share)).to(noise.dtype)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return images ``[B, 3, H, W]`` in [0, 1] of normal ``noise [B, L]``, labels ``[B]``."""
        return self.decode(self.latents(noise), labels)

    def decode(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return images ``[B, 3, H, W]`` in [0, 1] of latents ``[B, L]`` and labels ``[B]``."""
        given = torch.cat([latents, self.embeddings.weight.T[labels]], 1)
        generator: Any = self.generator
        stats = _stats(self.truncation, self.num_stats)
        # The order of TensorFlow, in which the channels are last.
        hidden = generator.gen_z(given).view(len(given), 4, 4, -1).permute(0, 3, 1, 2)
        for layer in generator.layers:
            hidden = layer(hidden, given, stats)
        hidden = torch.relu(generator.bn(hidden, None, stats))
        return torch.tanh(generator.conv_to_rgb(hidden)[:, :3].float()) / 2 + 0.5


def _stats(truncation: float, num_stats: int) -> tuple[int, int, float]:
    """Return which two rows of statistics are mixed, and the weight of the first.

    The weights are those of the released code, which gives the nearer row the smaller one.
    """
    part, place = math.modf(truncation / (1.0 / (num_stats - 1)))
    first = min(int(place), num_stats - 1)
    return (first, first, 1.0) if part == 0 else (first, min(first + 1, num_stats - 1), part)


class _Block(nn.Module):
    """Four convolutions at a quarter of the width; surplus channels of the input are dropped."""

    def __init__(
        self, before: int, after: int, condition: int, double: bool, num_stats: int
    ) -> None:
        super().__init__()
        middle = before // 4
        if middle < 1 or after > before:
            raise ValueError("a block has 4 channels or more, and gives no more than it takes")
        self.upsamples, self.width = double, after
        widths = (before, middle, middle, middle)
        for place, width in enumerate(widths):
            self.add_module(f"bn_{place}", _Norm(width, condition, num_stats))
        self.conv_0 = nn.Conv2d(before, middle, 1)
        self.conv_1 = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv_2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv_3 = nn.Conv2d(middle, after, 1)

    def forward(self, hidden: Tensor, given: Tensor, stats: tuple[int, int, float]) -> Tensor:
        residual = hidden
        for place in range(4):
            norm = self.get_submodule(f"bn_{place}")
            residual = torch.relu(norm(residual, given, stats))
            if place == 1 and self.upsamples:
                residual = F.interpolate(residual, scale_factor=2)
            residual = self.get_submodule(f"conv_{place}")(residual)
        hidden = hidden[:, : self.width]
        return residual + (F.interpolate(hidden, scale_factor=2) if self.upsamples else hidden)


class _Norm(nn.Module):
    """Batch norm by statistics of the truncation; gain, less 1, and bias are of the condition."""

    def __init__(self, width: int, condition: int | None, num_stats: int) -> None:
        super().__init__()
        self.register_buffer("running_means", torch.zeros(num_stats, width))
        self.register_buffer("running_vars", torch.ones(num_stats, width))
        if condition is None:
            self.weight = nn.Parameter(torch.ones(width))
            self.bias = nn.Parameter(torch.zeros(width))
        else:
            self.scale, self.offset = (nn.Linear(condition, width, bias=False) for _ in range(2))

    def forward(
        self, hidden: Tensor, given: Tensor | None, stats: tuple[int, int, float]
    ) -> Tensor:
        first, second, weight = stats
        both = (self.get_buffer(name) for name in ("running_means", "running_vars"))
        mean, var = (rows[first] * weight + rows[second] * (1 - weight) for rows in both)
        if given is None:
            return F.batch_norm(hidden, mean, var, self.weight, self.bias, eps=EPS)
        normal = F.batch_norm(hidden, mean, var, eps=EPS)
        gain, bias = (read(given)[:, :, None, None] for read in (self.scale, self.offset))
        return normal * (1 + gain) + bias
