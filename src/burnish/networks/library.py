"""Architectures of timm and torchvision under weights and a normalization from elsewhere."""

from typing import Any

import torch
from torch import Tensor, nn

from burnish.errors import InputError, unknown
from burnish.networks.normalize import Normalize
from burnish.networks.sizes import Channels, Classes, Deviations, Means, Width

# Wider than torchvision has them, in Salman et al. 2020, https://arxiv.org/abs/2007.08489.
WIDER = {f"wide_resnet50_{factor}": 64 * factor for factor in (3, 4, 5, 6)}


class LibraryClassifier(nn.Module):
    """An architecture of timm or torchvision, with random weights.

    Args:
        source: ``timm/<name>`` or ``torchvision/<name>``; also ``torchvision/wide_resnet50_4``.
        num_classes: Number of logits, K.
        in_channels: 3; timm also takes 1.
        stem: What replaces the first convolution of a ConvNeXt or of a ViT: empty for nothing;
            ``half``, ``three`` or ``patch``, the convolutional stems of Singh et al. 2023,
            https://arxiv.org/abs/2303.01870.
        stem_width: Channels of the first convolution of such a stem.
        gelu: Whether every ReLU is a GELU.
        mean: Channel means that images are normalized by, [0, 1].
        std: Channel standard deviations that they are divided by.
    """

    def __init__(
        self,
        source: str,
        num_classes: Classes,
        in_channels: Channels = 3,
        stem: str = "",
        stem_width: Width = 48,
        gelu: bool = False,
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.network = _network(source, num_classes, in_channels)
        if stem:
            _replace_stem(self.network, stem, stem_width, source)
        if gelu:
            _relu_to_gelu(self.network)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        return self.network(self.normalize(images))


def _network(source: str, num_classes: int, in_channels: int) -> nn.Module:
    library, _, name = source.partition("/")
    if library == "timm":
        import timm

        if not timm.is_model(name):
            known = (f"timm/{one}" for one in timm.list_models())
            raise unknown("timm model", source, known)
        return timm.create_model(name, num_classes=num_classes, in_chans=in_channels)
    if library != "torchvision":
        raise unknown("library", library, ["timm", "torchvision"])
    from torchvision import models

    if in_channels != 3:
        raise InputError(f"{source} takes RGB images; models of timm also take gray")
    if name in WIDER:
        return models.resnet50(num_classes=num_classes, width_per_group=WIDER[name])
    names = models.list_models(module=models)
    if name not in names:
        known = (f"torchvision/{one}" for one in (*names, *WIDER))
        raise unknown("torchvision model", source, known)
    options: dict[str, Any] = (
        {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    )
    return models.get_model(name, weights=None, num_classes=num_classes, **options)


class _LayerNorm(nn.Module):
    """Layer norm over the channels of ``[B, C, H, W]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.zeros(channels)),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        centered = hidden - hidden.mean(1, keepdim=True)
        spread = (centered.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * (centered / spread) + self.bias[:, None, None]


class _Stem(nn.Module):
    def __init__(self, channels: list[int], strides: list[int], last: int = 0) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        for before, after, stride in zip([3, *channels], channels, strides, strict=False):
            self.stem.append(nn.Conv2d(before, after, 3, stride, padding=1))
            self.stem.append(_LayerNorm(after))
            self.stem.append(nn.GELU())
        if last:
            self.stem.append(nn.Conv2d(channels[-1], last, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.stem(images)


def _replace_stem(network: nn.Module, stem: str, width: int, source: str) -> None:
    place = next((one for one in ("patch_embed.proj", "stem") if _has(network, one)), "")
    if not place:
        raise InputError(f"{source} has no stem to replace")
    if stem == "patch":
        weight: Any = network.get_submodule(place)
        channels = [width * 2**one for one in range(4)]
        made = _Stem(channels, [2] * 4, weight.out_channels)
    elif stem == "half":
        made = _Stem([width, 2 * width], [2, 2])
    elif stem == "three":
        made = _Stem([width, int(1.5 * width), 2 * width], [2, 2, 1])
    else:
        raise unknown("stem", stem, ["half", "three", "patch"])
    network.set_submodule(place, made)


def _has(network: nn.Module, name: str) -> bool:
    return name in dict(network.named_modules())


def _relu_to_gelu(network: nn.Module) -> None:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU):
            network.set_submodule(name, nn.GELU())
