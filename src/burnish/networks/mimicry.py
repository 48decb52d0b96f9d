"""The generators of torch-mimicry: WGAN-GP, SNGAN, SSGAN, InfoMax-GAN and, with classes, cGAN-PD.

Lee & Town 2020, "Mimicry: Towards the Reproducibility of GAN Research",
https://arxiv.org/abs/2005.02494. Names of tensors are those of its files. All of the generators
without classes are one network, so a file cannot say which of them it is.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from burnish.networks.sizes import Classes, Latents, Side, Widths


class MimicryGenerator(nn.Module):
    """Map latents, and labels if there are classes, to images.

    Args:
        latent_size: Numbers per latent, L.
        widths: Channels at each resolution, the lowest first; each next one doubles it.
        bottom: Height and width of the lowest resolution.
        num_classes: Number of classes, K; None without.
    """

    def __init__(
        self,
        latent_size: Latents = 128,
        widths: Widths = (256, 256, 256, 256),
        bottom: Side = 4,
        num_classes: Classes | None = None,
    ) -> None:
        super().__init__()
        if not 2 <= len(widths) <= 10:
            raise ValueError("a generator of mimicry has 1 to 9 blocks")
        side = bottom << (len(widths) - 1)
        self.image_shape = (3, side, side)
        self.num_classes, self.latent_size = num_classes, latent_size
        self.start_shape = (widths[0], bottom, bottom)
        self.l1 = nn.Linear(latent_size, widths[0] * bottom**2)
        # In the files, blocks count from 2, and what follows counts on.
        self.block_names = [f"block{2 + place}" for place in range(len(widths) - 1)]
        for name, (before, after) in zip(self.block_names, pairwise(widths), strict=True):
            self.add_module(name, _Block(before, after, num_classes))
        last = len(widths) + 1
        self.end_names = f"b{last}", f"c{last}"
        self.add_module(self.end_names[0], nn.BatchNorm2d(widths[-1]))
        self.add_module(self.end_names[1], nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Return images ``[B, 3, H, W]`` in [0, 1] of latents ``[B, L]`` and labels ``[B]``."""
        hidden = self.l1(latents).view(-1, *self.start_shape)
        for name in self.block_names:
            hidden = self.get_submodule(name)(hidden, labels)
        norm, conv = (self.get_submodule(name) for name in self.end_names)
        return torch.tanh(conv(torch.relu(norm(hidden))).float()) / 2 + 0.5


class _Block(nn.Module):
    """Two convolutions after bilinear doubling, beside a 1 x 1 one."""

    def __init__(self, before: int, after: int, num_classes: int | None) -> None:
        super().__init__()
        self.b1, self.b2 = (_Norm(width, num_classes) for width in (before, after))
        self.c1 = nn.Conv2d(before, after, 3, padding=1)
        self.c2 = nn.Conv2d(after, after, 3, padding=1)
        self.c_sc = nn.Conv2d(before, after, 1)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, hidden: Tensor, labels: Tensor | None) -> Tensor:
        residual = self.c1(self.upsample(torch.relu(self.b1(hidden, labels))))
        residual = self.c2(torch.relu(self.b2(residual, labels)))
        return residual + self.c_sc(self.upsample(hidden))


class _Norm(nn.BatchNorm2d):
    """Batch norm; with classes, a gain and a bias for each, side by side in one embedding."""

    def __init__(self, width: int, num_classes: int | None) -> None:
        super().__init__(width, affine=num_classes is None)
        self.embed = None if num_classes is None else nn.Embedding(num_classes, 2 * width)

    def forward(self, input: Tensor, labels: Tensor | None = None) -> Tensor:
        normal = super().forward(input)
        if self.embed is None:
            return normal
        gain, bias = self.embed(labels)[:, :, None, None].chunk(2, 1)
        return normal * gain + bias
