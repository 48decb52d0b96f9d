"""The networks for 32x32 images that robust classifiers were published as, by their names of keys.

The blocks are those of He et al. 2016 (https://arxiv.org/abs/1512.03385,
https://arxiv.org/abs/1603.05027) and Zagoruyko & Komodakis 2016 (https://arxiv.org/abs/1605.07146).
Names of layers follow the public files, so that their weights load strictly. The activation has no
weights: files of networks with ReLU and SiLU look the same.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

from torch import Tensor, nn

from burnish.errors import unknown
from burnish.networks.normalize import Normalize
from burnish.networks.sizes import Blocks, Channels, Classes, Deviations, Means, Width
from burnish.schema import Range

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


def activation_of(name: str) -> type[nn.Module]:
    """Return an activation; raises InputError for a name that is none."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


class CifarResNet(nn.Module):
    """A ResNet of four stages of widths w, 2w, 4w, 8w; the first at full resolution.

    Args:
        in_channels: 3 for RGB.
        num_classes: Number of logits, K.
        blocks: Residual blocks of the four stages: 2, 2, 2, 2 for ResNet-18; 3, 4, 6, 3 for -50.
        bottleneck: Blocks of three convolutions and four times the width, as from ResNet-50 on.
        width: Channels of the first stage, w.
        preactivation: ``""``: normalize after convolutions; ``input`` or ``activated``: before,
            with shortcuts that start from the input of a block or behind its first activation.
        final_norm: Of a network with preactivation: normalize before the linear layer.
        activation: ``relu``, ``silu`` or ``gelu``.
        mean: Channel means that images are normalized by, [0, 1].
        std: Channel standard deviations that they are divided by.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        blocks: Sequence[Blocks] = (2, 2, 2, 2),
        bottleneck: bool = False,
        width: Width = 64,
        preactivation: str = "",
        final_norm: bool = False,
        activation: str = "relu",
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        super().__init__()
        if preactivation not in ("", "input", "activated"):
            raise unknown("preactivation", preactivation, ["input", "activated"])
        if len(blocks) != 4:
            raise ValueError(f"four stages have four numbers of blocks, not {len(blocks)}")
        active = activation_of(activation)
        self.normalize = Normalize(mean, std)
        self.conv1 = _conv3(in_channels, width)
        self.bn1 = nn.Identity() if preactivation else nn.BatchNorm2d(width)
        self.active = nn.Identity() if preactivation else active()
        before, expansion = width, 4 if bottleneck else 1
        for stage, count in enumerate(blocks):
            rows: list[nn.Module] = []
            for place in range(count):
                stride, inner = 2 if stage and not place else 1, width * 2**stage
                if preactivation:
                    row = _PreBlock(before, inner, stride, active, preactivation == "activated")
                elif bottleneck:
                    row = _Bottleneck(before, inner, stride, active)
                else:
                    row = _Block(before, inner, stride, active)
                rows.append(row)
                before = inner * expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*rows))
        self.bn = nn.BatchNorm2d(before) if final_norm else nn.Identity()
        self.final = active() if final_norm else nn.Identity()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.linear = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        hidden = self.active(self.bn1(self.conv1(self.normalize(images))))
        for stage in (1, 2, 3, 4):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        return self.linear(self.pool(self.final(self.bn(hidden))))


class CifarWideResNet(nn.Module):
    """A wide ResNet of three stages, WRN-depth-widen_factor, as TRADES and RobustBench name it.

    Args:
        in_channels: 3 for RGB.
        num_classes: Number of logits, K.
        depth: 6 n + 4, e.g. 28, 34, 70.
        widen_factor: Width multiple of the 16-channel base.
        activation: ``relu``, ``silu`` or ``gelu``.
        mean: Channel means that images are normalized by, [0, 1].
        std: Channel standard deviations that they are divided by.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        depth: Annotated[int, Range(10, 604)] = 28,
        widen_factor: Annotated[int, Range(1, 100)] = 10,
        activation: str = "relu",
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        super().__init__()
        if depth % 6 != 4:
            raise ValueError(f"the depth of a wide ResNet is 6 n + 4, e.g. 28; not {depth}")
        active = activation_of(activation)
        self.normalize = Normalize(mean, std)
        self.conv1 = _conv3(in_channels, 16)
        before = 16
        for stage in range(3):
            after = 16 * widen_factor * 2**stage
            rows = nn.Sequential()
            for place in range((depth - 4) // 6):
                stride = 2 if stage and not place else 1
                rows.append(_WideBlock(before, after, stride, active))
                before = after
            setattr(self, f"block{stage + 1}", nn.ModuleDict({"layer": rows}))
        self.bn1 = nn.BatchNorm2d(before)
        self.active = active()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        hidden = self.conv1(self.normalize(images))
        for stage in (1, 2, 3):
            hidden = self.get_submodule(f"block{stage}.layer")(hidden)
        return self.fc(self.pool(self.active(self.bn1(hidden))))


class _Block(nn.Module):
    def __init__(
        self, before: int, after: int, stride: int, active: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3(before, after, stride), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = _conv3(after, after), nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride)
        self.active = active()

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.active(self.bn1(self.conv1(hidden)))))
        return self.active(residual + self.shortcut(hidden))


class _Bottleneck(nn.Module):
    def __init__(
        self, before: int, inner: int, stride: int, active: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = _conv3(inner, inner, stride), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = (
            nn.Conv2d(inner, 4 * inner, 1, bias=False),
            nn.BatchNorm2d(4 * inner),
        )
        self.shortcut = _shortcut(before, 4 * inner, stride)
        self.active = active()

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.active(self.bn1(self.conv1(hidden)))
        residual = self.bn3(self.conv3(self.active(self.bn2(self.conv2(residual)))))
        return self.active(residual + self.shortcut(hidden))


class _PreBlock(nn.Module):
    def __init__(
        self, before: int, after: int, stride: int, active: Callable[[], nn.Module],
        from_active: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), _conv3(before, after, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(after), _conv3(after, after)
        self.active, self.from_active = active(), from_active
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False))

    def forward(self, hidden: Tensor) -> Tensor:
        active = self.active(self.bn1(hidden))
        shortcut = hidden
        if self.shortcut is not None:
            shortcut = self.shortcut(active if self.from_active else hidden)
        return self.conv2(self.active(self.bn2(self.conv1(active)))) + shortcut


class _WideBlock(nn.Module):
    def __init__(
        self, before: int, after: int, stride: int, active: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), _conv3(before, after, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(after), _conv3(after, after)
        self.active = active()
        self.convShortcut = None
        if before != after:
            self.convShortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        active = self.active(self.bn1(hidden))
        shortcut = hidden if self.convShortcut is None else self.convShortcut(active)
        return self.conv2(self.active(self.bn2(self.conv1(active)))) + shortcut


def _conv3(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


def _shortcut(before: int, after: int, stride: int) -> nn.Sequential:
    if stride == 1 and before == after:
        return nn.Sequential()
    conv = nn.Conv2d(before, after, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))
