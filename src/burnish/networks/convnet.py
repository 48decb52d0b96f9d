"""Small convolutional networks that serve as feature extractors where Inception cannot.

They learn classes or, without labels, which two views are of one image. They are plain
feed-forward networks, unlike the residual guides: an extractor that resembles the guide would
overrate refined images. ``kernel_size``, ``activation`` and ``pooling`` make them differ.
"""

from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from burnish.errors import InputError, unknown
from burnish.networks.normalize import Normalize
from burnish.networks.sizes import Channels, Classes, Deviations, Means, Share, Width, Widths
from burnish.schema import Range

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
POOLINGS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


class ConvNet(nn.Module):
    """A convolutional network with a feature layer and a linear head.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of logits, K; without labels, size of the projection.
        widths: Channels of each stage; every stage but the last halves the resolution.
        num_features: Size of the feature layer, D, from 1 on.
        kernel_size: Odd size of the convolutions.
        activation: ``relu``, ``gelu`` or ``tanh``.
        pooling: ``max`` or ``avg``, how the resolution is halved.
        dropout: Probability of dropping a feature in training.
        mean: Channel means of the training data, [0, 1].
        std: Channel standard deviations of the training data.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: Classes,
        widths: Widths = (32, 64, 128),
        num_features: Width = 64,
        kernel_size: Annotated[int, Range(1, 31)] = 3,
        activation: str = "relu",
        pooling: str = "max",
        dropout: Share = 0.2,
        mean: Means = (0.5,),
        std: Deviations = (0.25,),
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        if num_features < 1:
            raise InputError(f"num_features starts at 1, not {num_features}")
        active, padding = ACTIVATIONS[activation], kernel_size // 2
        layers: list[nn.Module] = []
        for before, after in pairwise([in_channels, *widths]):
            conv = nn.Conv2d(before, after, kernel_size, padding=padding, bias=False)
            layers += [conv, nn.BatchNorm2d(after), active(), POOLINGS[pooling](2)]
        self.normalize = Normalize(mean, std)
        self.layers = nn.Sequential(*layers[:-1])
        # A 2 x 2 grid instead of one mean, so that features also tell where things are.
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.embed = nn.Sequential(nn.Linear(4 * widths[-1], num_features), active())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_classes))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return features ``[B, D]`` of images ``[B, C, H, W]`` in [0, 1]."""
        return self.embed(self.pool(self.layers(self.normalize(images))))

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of features ``[B, D]``."""
        return self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        return self.forward_head(self.forward_features(images))
