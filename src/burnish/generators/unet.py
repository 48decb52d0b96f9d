"""What consistency and diffusion models share: U-Net, noise levels, scalings and the folder.

Data are in [-1, 1]; ``sigma`` is the standard deviation of the added noise. Sources: Karras et al.
2022 (EDM), "Elucidating the Design Space of Diffusion-Based Generative Models", table 1, equation
5, https://arxiv.org/abs/2206.00364; Song et al. 2023, "Consistency Models", appendix C,
https://arxiv.org/abs/2303.01469.
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.generators.base import Generator
from burnish.generators.unet_files import load_unet
from burnish.hub import find
from burnish.schema import Range, check

if TYPE_CHECKING:
    from diffusers import UNet2DModel


def build_unet(
    image_size: int,
    in_channels: int,
    num_classes: int | None,
    widths: Sequence[int] = (32, 64, 96),
    layers_per_block: int = 1,
    attention: bool = False,
    norm_num_groups: int = 8,
    dropout: float = 0.0,
) -> UNet2DModel:
    """Build a U-Net with random weights.

    Args:
        image_size: Height and width; divisible by 2 ** (len(widths) - 1).
        in_channels: 1 for gray, 3 for RGB.
        num_classes: Number of classes; None for an unconditional model.
        widths: Channels at each resolution, full size first.
        layers_per_block: Residual blocks per resolution.
        attention: Self-attention at the lowest resolution.
        norm_num_groups: Groups of the group normalizations; divides every width.
        dropout: Probability of dropping an activation in training.
    """
    from diffusers import UNet2DModel

    down, up = ["DownBlock2D"] * len(widths), ["UpBlock2D"] * len(widths)
    if attention:
        down[-1], up[0] = "AttnDownBlock2D", "AttnUpBlock2D"
    return UNet2DModel(
        sample_size=image_size, in_channels=in_channels, out_channels=in_channels,
        num_class_embeds=num_classes, block_out_channels=tuple(widths),
        layers_per_block=layers_per_block, down_block_types=tuple(down), up_block_types=tuple(up),
        add_attention=attention, attention_head_dim=min(32, widths[-1]),
        norm_num_groups=norm_num_groups, resnet_time_scale_shift="scale_shift", dropout=dropout,
    )  # fmt: skip


@dataclass(frozen=True)
class Scalings:
    """The range of noise levels and what follows from it.

    Args:
        sigma_min: Smallest noise level, above 0; a consistency function is the identity there.
        sigma_max: Largest noise level, where sampling begins.
        sigma_data: Standard deviation of the data in [-1, 1].
        rho: Curvature of the sampling schedule (EDM equation 5).
        num_train_timesteps: Levels in the table that a consistency model is sampled by.
    """

    sigma_min: Annotated[float, Range(1e-9, 1e6)] = 0.002
    sigma_max: Annotated[float, Range(1e-9, 1e6)] = 80.0
    sigma_data: Annotated[float, Range(1e-9, 1e6)] = 0.5
    rho: Annotated[float, Range(0.1, 100)] = 7.0
    num_train_timesteps: Annotated[int, Range(2, 1e6)] = 40

    def __post_init__(self) -> None:
        check(self)
        if self.sigma_min >= self.sigma_max:
            raise InputError(f"sigma_max must be above sigma_min, {self.sigma_min}")

    def schedule(self, num_steps: int, num_levels: int | None = None) -> list[float]:
        """Return ``num_steps`` falling noise levels, from sigma_max on.

        The table of :meth:`levels` is read at equal strides, as ``CMStochasticIterativeScheduler``
        of diffusers does.
        """
        num_levels = num_levels or self.num_train_timesteps
        stride = num_levels // num_steps
        return self.levels([step * stride for step in range(num_steps)], num_levels)

    def levels(self, places: Sequence[int], num_levels: int | None = None) -> list[float]:
        r"""Return levels of a table of N = ``num_levels`` (EDM equation 5), 0 the noisiest.

        .. math:: \sigma_i = (\sigma_{max}^{1/\rho}
            + \frac{i}{N-1} (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho}))^\rho
        """
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        last = max(1, (num_levels or self.num_train_timesteps) - 1)
        return [(high + place / last * (low - high)) ** self.rho for place in places]

    def c_in(self, sigma: Tensor) -> Tensor:
        """Return 1 / sqrt(sigma^2 + sigma_data^2): the network sees unit variance."""
        return (sigma**2 + self.sigma_data**2).rsqrt()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """Return 250 ln(sigma), the noise level as an input of the network."""
        return 250 * torch.log(sigma)

    def denoiser(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return (c_skip, c_out) of a denoiser, which estimates the mean image (EDM table 1)."""
        total = sigma**2 + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data * total.rsqrt()

    def boundary(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return (c_skip, c_out) of a consistency function: exactly (1, 0) at sigma_min."""
        above = sigma - self.sigma_min
        c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        return c_skip, above * self.sigma_data * (sigma**2 + self.sigma_data**2).rsqrt()


class Preconditioned(nn.Module):
    r"""A U-Net :math:`F` with scalings around it.

    .. math:: c_{skip} x + c_{out} F(c_{in} x, c_{noise}, y)

    Args:
        unet: A ``UNet2DModel`` of diffusers, class-conditional if it has class embeddings.
        scalings: The range of noise levels.
        consistent: Take the scalings of a consistency function (True) or of a denoiser (False).
    """

    def __init__(self, unet: nn.Module, scalings: Scalings, consistent: bool) -> None:
        super().__init__()
        self.unet, self.scalings, self.consistent = unet, scalings, consistent

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return the estimate of the clean image.

        Args:
            noisy: ``[B, C, H, W]``, data in [-1, 1] plus noise.
            sigma: ``[B]``, its noise level, in [sigma_min, sigma_max]; float32, or float64 where
                its logarithm is to be as exact as that of diffusers.
            labels: ``[B]`` int64; None without classes.
        """
        scalings = self.scalings
        factors = (scalings.boundary if self.consistent else scalings.denoiser)(sigma)
        all_factors = (*factors, scalings.c_in(sigma))
        c_skip, c_out, c_in = (c.to(noisy.dtype).view(-1, 1, 1, 1) for c in all_factors)
        level = scalings.c_noise(sigma).to(noisy.dtype)
        hidden = self.unet(noisy * c_in, level, class_labels=labels).sample
        return c_skip * noisy + c_out * hidden.float()


class UNetGenerator(Generator):
    """A generator whose network is a U-Net with scalings around it.

    A subclass states its ``kind`` and whether it is a consistency function or a denoiser.
    """

    kind: ClassVar[str]
    consistent: ClassVar[bool]

    def __init__(
        self,
        unet: UNet2DModel,
        scalings: Scalings | None = None,
        num_steps: int = 1,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(unet, num_steps, card)
        self.unet = unet
        self.scalings = scalings or Scalings()
        self.function = Preconditioned(unet, self.scalings, self.consistent)
        self.num_classes = unet.config["num_class_embeds"]
        size = unet.config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        self.image_shape = unet.config["in_channels"], height, width

    def exact_parts(self) -> Iterable[nn.Module]:
        """Return what OpenAI's networks keep in float32: all of the embeddings, and the end."""
        unet: Any = self.unet
        yield from (unet.time_embedding, unet.conv_norm_out, unet.conv_out)
        for name, module in unet.named_modules():
            if name.endswith("time_emb_proj"):
                yield module

    def save(self, folder: Path, half: bool = False) -> None:
        """Write a folder, with float16 weights if ``half``; replace an older model of the kind."""
        if folder.is_dir() and any(folder.iterdir()) and not self.is_in(folder):
            raise InputError(f"{folder} holds other files; give a new folder")
        # "_name_or_path" is the local path that the weights were loaded from.
        config = {k: v for k, v in self.unet.config.items() if k != "_name_or_path"}
        unet: Any = type(self.unet).from_config(config)
        unet.load_state_dict(self.unet.state_dict())
        if half:
            unet.half()
        with write_aside(folder) as aside:
            self.save_parts(aside, unet)
            (aside / "card.json").write_text(json.dumps(self.card, indent=2) + "\n")

    @classmethod
    def load(cls, source: str | Path, **options: Any) -> Self:
        """Load a folder or a repository on the hub; ``options`` are arguments of the class."""
        folder = find("generator", str(source))
        try:
            # Part by part: a whole pipeline may bring Python files, which diffusers would run.
            scalings, card = cls.read_parts(folder)
            unet = load_unet(folder / "unet")
        except InputError as error:
            raise InputError(f"no {cls.kind} can be loaded from {source}: {error}") from error
        return cls(unet, scalings, card=card or {"source": str(source)}, **options)

    @classmethod
    @abstractmethod
    def is_in(cls, folder: Path) -> bool:
        """Return whether a folder holds a model of this kind."""

    @abstractmethod
    def save_parts(self, folder: Path, unet: UNet2DModel) -> None:
        """Write the U-Net and what the model adds to it, except the card."""

    @classmethod
    @abstractmethod
    def read_parts(cls, folder: Path) -> tuple[Scalings, dict[str, Any]]:
        """Return scalings and card; raise InputError if there are none."""
