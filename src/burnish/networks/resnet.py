"""Residual networks for small images.

Three stages of widths w, 2w, 4w at full, half and quarter resolution; global average pooling; one
linear head. The activation is smooth (SiLU), because a guide is used for its gradient with respect
to the image.

Sources: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2,
https://arxiv.org/abs/1512.03385; Zagoruyko & Komodakis 2016, "Wide Residual Networks",
https://arxiv.org/abs/1605.07146.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

from torch import Tensor, nn

from burnish.networks.normalize import Normalize
from burnish.networks.sizes import Blocks, Channels, Classes, Deviations, Means, Width
from burnish.schema import Range


class ResNet(nn.Module):
    """A ResNet of post-activation blocks; depth is 6 * num_blocks + 2.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of logits, K.
        width: Channels of the first stage.
        num_blocks: Residual blocks per stage.
        mean: Channel means of the training data, [0, 1].
        std: Channel standard deviations of the training data.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        width: Width = 64,
        num_blocks: Blocks = 3,
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        if width < 1 or num_blocks < 1:
            raise ValueError(f"width and num_blocks start at 1, not {width} and {num_blocks}")
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.stem = nn.Sequential(_conv3(in_channels, width), nn.BatchNorm2d(width), nn.SiLU())
        self.stages = _stages(_Block, [width, width, 2 * width, 4 * width], num_blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        return self.head(self.pool(self.stages(self.stem(self.normalize(images)))))


class WideResNet(nn.Module):
    """A pre-activation wide ResNet, WRN-depth-widen_factor.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of logits, K.
        depth: 6 n + 4, e.g. 16, 28, 34.
        widen_factor: Width multiple of the 16-channel base.
        mean: Channel means of the training data, [0, 1].
        std: Channel standard deviations of the training data.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        depth: Annotated[int, Range(10, 604)] = 28,
        widen_factor: Annotated[int, Range(1, 100)] = 10,
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        super().__init__()
        if depth % 6 != 4 or depth < 10:
            raise ValueError(f"the depth of a wide ResNet is 6 n + 4, e.g. 28; not {depth}")
        widths = [16, *(16 * widen_factor * factor for factor in (1, 2, 4))]
        self.normalize = Normalize(mean, std)
        self.stem = _conv3(in_channels, 16)
        self.stages = _stages(_PreBlock, widths, (depth - 4) // 6)
        self.final = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.SiLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        hidden = self.stages(self.stem(self.normalize(images)))
        return self.head(self.pool(self.final(hidden)))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3(before, after, stride)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = _conv3(after, after)
        self.norm2 = nn.BatchNorm2d(after)
        self.activation = nn.SiLU()
        self.shortcut = nn.Identity()
        if stride != 1 or before != after:
            conv = nn.Conv2d(before, after, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.activation(self.norm1(self.conv1(hidden)))
        return self.activation(self.norm2(self.conv2(residual)) + self.shortcut(hidden))


class _PreBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = _conv3(before, after, stride)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = _conv3(after, after)
        self.activation = nn.SiLU()
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        active = self.activation(self.norm1(hidden))
        shortcut = hidden if self.shortcut is None else self.shortcut(active)
        residual = self.conv1(active)
        return self.conv2(self.activation(self.norm2(residual))) + shortcut


def _conv3(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


def _stages(
    block: Callable[[int, int, int], nn.Module], widths: Sequence[int], num_blocks: int
) -> nn.Sequential:
    """Return three stages of blocks; the first of the second and third halves the resolution."""
    blocks = []
    for stage in range(3):
        blocks.append(block(widths[stage], widths[stage + 1], 1 if stage == 0 else 2))
        blocks += [block(widths[stage + 1], widths[stage + 1], 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
