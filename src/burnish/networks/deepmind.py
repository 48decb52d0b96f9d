"""The networks of DeepMind's robust classifiers for 32x32 images, by their names of keys.

Gowal et al. 2020, "Uncovering the Limits of Adversarial Training against Norm-Bounded Adversarial
Examples", https://arxiv.org/abs/2010.03593; also those of Rebuffi et al. 2021, Wang et al. 2023.
They differ from other residual networks in how convolutions of stride 2 are padded: below and to
the right only.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from burnish.networks.cifar import activation_of
from burnish.networks.normalize import Normalize
from burnish.networks.sizes import Blocks, Channels, Classes, Deviations, Means, Width
from burnish.schema import Range


class DeepMindWideResNet(nn.Module):
    """A wide ResNet of three stages, WRN-depth-widen_factor.

    Args:
        in_channels: 3 for RGB.
        num_classes: Number of logits, K.
        depth: 6 n + 4, e.g. 28, 70.
        widen_factor: Width multiple of the 16-channel base.
        activation: ``relu``, ``silu`` or ``gelu``; of the published ones, ``silu``.
        mean: Channel means that images are normalized by, [0, 1].
        std: Channel standard deviations that they are divided by.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        depth: Annotated[int, Range(10, 604)] = 28,
        widen_factor: Annotated[int, Range(1, 100)] = 10,
        activation: str = "silu",
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        super().__init__()
        if depth % 6 != 4:
            raise ValueError(f"the depth of a wide ResNet is 6 n + 4, e.g. 28; not {depth}")
        active, before = activation_of(activation), 16
        self.normalize = Normalize(mean, std)
        self.init_conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer = nn.Sequential()
        for stage in range(3):
            after = 16 * widen_factor * 2**stage
            group = _Group()
            for place in range((depth - 4) // 6):
                stride = 2 if stage and not place else 1
                group.block.append(_WideBlock(before, after, stride, active))
                before = after
            self.layer.append(group)
        self.batchnorm, self.active = nn.BatchNorm2d(before), active()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.logits = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        hidden = self.layer(self.init_conv(self.normalize(images)))
        return self.logits(self.pool(self.active(self.batchnorm(hidden))))


class DeepMindResNet(nn.Module):
    """A ResNet with preactivation of four stages of widths w, 2w, 4w, 8w.

    Args:
        in_channels: 3 for RGB.
        num_classes: Number of logits, K.
        blocks: Residual blocks of the four stages; 2, 2, 2, 2 for ResNet-18.
        width: Channels of the first stage, w.
        activation: ``relu``, ``silu`` or ``gelu``; of the published ones, ``silu``.
        mean: Channel means that images are normalized by, [0, 1].
        std: Channel standard deviations that they are divided by.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        blocks: Sequence[Blocks] = (2, 2, 2, 2),
        width: Width = 64,
        activation: str = "silu",
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        super().__init__()
        if len(blocks) != 4:
            raise ValueError(f"four stages have four numbers of blocks, not {len(blocks)}")
        active, before = activation_of(activation), width
        self.normalize = Normalize(mean, std)
        self.conv_2d = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        for stage, count in enumerate(blocks):
            rows = nn.Sequential()
            for place in range(count):
                stride = 2 if stage and not place else 1
                rows.append(_Block(before, width * 2**stage, stride, active))
                before = width * 2**stage
            setattr(self, f"layer_{stage}", rows)
        self.batchnorm, self.active = nn.BatchNorm2d(before), active()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.logits = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        hidden = self.conv_2d(self.normalize(images))
        for stage in range(4):
            hidden = self.get_submodule(f"layer_{stage}")(hidden)
        return self.logits(self.pool(self.active(self.batchnorm(hidden))))


class _Group(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential()

    def forward(self, hidden: Tensor) -> Tensor:
        return self.block(hidden)


class _WideBlock(nn.Module):
    def __init__(
        self, before: int, after: int, stride: int, active: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.batchnorm_0, self.batchnorm_1 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv_0 = nn.Conv2d(before, after, 3, stride, bias=False)
        self.conv_1 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.active, self.stride = active(), stride
        self.shortcut = None
        if before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        active = self.active(self.batchnorm_0(hidden))
        residual = self.conv_0(_pad(active, self.stride))
        residual = self.conv_1(self.active(self.batchnorm_1(residual)))
        return residual + (hidden if self.shortcut is None else self.shortcut(active))


class _Block(nn.Module):
    def __init__(
        self, before: int, after: int, stride: int, active: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.batchnorm_0, self.batchnorm_1 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv_2d_1 = nn.Conv2d(before, after, 3, stride, bias=False)
        self.conv_2d_2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.active, self.stride = active(), stride
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 3, stride, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.conv_2d_1(_pad(self.active(self.batchnorm_0(hidden)), self.stride))
        residual = self.conv_2d_2(self.active(self.batchnorm_1(residual)))
        if self.shortcut is None:
            return residual + hidden
        return residual + self.shortcut(_pad(hidden, self.stride))


def _pad(hidden: Tensor, stride: int) -> Tensor:
    return functional.pad(hidden, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
