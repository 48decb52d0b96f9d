"""Small networks of the literature on verified robustness, by their names of keys.

alpha-beta-CROWN's residual networks (Wang et al. 2021, https://arxiv.org/abs/2103.06624) and the
plain ones of Wong & Kolter 2018 (https://arxiv.org/abs/1711.00851). They flatten what the
convolutions give, so take images of one size only.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from burnish.networks.normalize import Normalize
from burnish.networks.sizes import (
    Blocks,
    Channels,
    Classes,
    Deviations,
    Means,
    Side,
    Width,
    Widths,
)
from burnish.schema import Range


class CrownResNet(nn.Module):
    """A residual network without batch norm and with two linear layers.

    Every stage, and the first convolution, halves the resolution; stages have width 2w.

    Args:
        in_channels: 3 for RGB.
        num_classes: Number of logits, K.
        width: Channels of the first convolution, w.
        blocks: Residual blocks of the stages: 2 for resnet2b; 2, 2 for resnet4b.
        hidden: Size of the linear layer between.
        side: Height and width of images.
        mean: Channel means that images are normalized by, [0, 1].
        std: Channel standard deviations that they are divided by.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        width: Width = 16,
        blocks: Sequence[Blocks] = (2, 2),
        hidden: Width = 100,
        side: Side = 32,
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.conv1 = nn.Conv2d(in_channels, width, 3, 2, padding=1)
        before, side = width, (side + 1) // 2
        self.stages = len(blocks)
        for stage, count in enumerate(blocks):
            rows = nn.Sequential()
            for place in range(count):
                rows.append(_Block(before, 2 * width, 1 if place else 2))
                before = 2 * width
            setattr(self, f"layer{stage + 1}", rows)
            side = (side + 1) // 2
        self.linear1 = nn.Linear(before * side * side, hidden)
        self.linear2 = nn.Linear(hidden, num_classes)
        self.active = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        hidden = self.active(self.conv1(self.normalize(images)))
        for stage in range(self.stages):
            hidden = self.get_submodule(f"layer{stage + 1}")(hidden)
        return self.linear2(self.active(self.linear1(hidden.flatten(1))))


class PlainConvNet(nn.Sequential):
    """Convolutions, then linear layers, with ReLU between.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of logits, K.
        widths: Channels of the convolutions.
        kernel_size: Size of the convolutions.
        stride: Stride of the convolutions.
        padding: Padding of the convolutions.
        hidden: Sizes of the linear layers before the last.
        side: Height and width of images.
        mean: Channel means that images are normalized by, [0, 1].
        std: Channel standard deviations that they are divided by.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        widths: Widths = (16, 32),
        kernel_size: Annotated[int, Range(1, 31)] = 4,
        stride: Annotated[int, Range(1, 8)] = 2,
        padding: Annotated[int, Range(0, 15)] = 1,
        hidden: Widths = (100,),
        side: Side = 32,
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise([in_channels, *widths]):
            layers += [nn.Conv2d(before, after, kernel_size, stride, padding), nn.ReLU()]
            side = (side + 2 * padding - kernel_size) // stride + 1
        layers.append(nn.Flatten())
        for before, after in pairwise([widths[-1] * side * side, *hidden, num_classes]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*layers[:-1])
        self.normalize = Normalize(mean, std)

    def forward(self, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        hidden = self.normalize(images)
        for name, layer in self._modules.items():
            if name != "normalize" and layer is not None:
                hidden = layer(hidden)
        return hidden


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut.append(nn.Conv2d(before, after, 1, stride))
        self.active = nn.ReLU()

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.conv2(self.active(self.conv1(hidden)))
        return self.active(residual + self.shortcut(hidden))
