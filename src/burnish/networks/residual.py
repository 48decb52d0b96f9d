"""A network that changes images a little: what a learned refiner is made of."""

from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from burnish.networks.sizes import Channels, Width
from burnish.schema import Range


class Residual(nn.Module):
    """Images, and what a few 3x3 convolutions add to them: nothing before training.

    It takes images of any size; each pixel follows from those at most ``depth`` away.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        width: Channels between the convolutions.
        depth: Number of convolutions.
    """

    def __init__(
        self, in_channels: Channels, width: Width = 48, depth: Annotated[int, Range(2, 50)] = 7
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        convolutions = [
            nn.Conv2d(before, after, 3, padding=1)
            for before, after in pairwise([in_channels, *[width] * (depth - 1), in_channels])
        ]
        nn.init.zeros_(convolutions[-1].weight)
        assert convolutions[-1].bias is not None
        nn.init.zeros_(convolutions[-1].bias)
        active = [layer for one in convolutions for layer in (one, nn.SiLU())]
        self.layers = nn.Sequential(*active[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """Return images ``[B, C, H, W]`` of images in [0, 1]; the result is not clamped."""
        return images + self.layers(images - 0.5).float()
