"""What consistency and diffusion models share: a U-Net of diffusers and the folder it lies in."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.generators.base import Generator
from burnish.generators.scalings import Preconditioned, Scalings

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

    def save(self, folder: Path, half: bool = False) -> None:
        """Write a folder that :meth:`load` reads.

        Args:
            folder: Where; an older model of the same kind is replaced as a whole.
            half: Store weights as float16; loading makes them float32 again.

        Raises:
            InputError: The folder holds something else.
        """
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
        """Load a folder or, by its name, a repository on the hub.

        Args:
            source: What :meth:`save` wrote.
            options: Options of sampling as the class takes them, such as ``num_steps``.

        Raises:
            InputError: There is no such model, or it cannot be loaded.
        """
        from diffusers import UNet2DModel

        try:
            # Part by part: a whole pipeline may bring Python files, which diffusers would run.
            scalings, card = cls.read_parts(source)
            unet = UNet2DModel.from_pretrained(
                str(source), subfolder="unet", torch_dtype=torch.float32, use_safetensors=True,
                local_files_only=Path(source).exists(),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"no {cls.kind} can be loaded from {source}: {reason}") from error
        return cls(unet, scalings, card=card, **options)

    @classmethod
    @abstractmethod
    def is_in(cls, folder: Path) -> bool:
        """Return whether a folder holds a model of this kind."""

    @abstractmethod
    def save_parts(self, folder: Path, unet: UNet2DModel) -> None:
        """Write the U-Net and what the model adds to it, except the card."""

    @classmethod
    @abstractmethod
    def read_parts(cls, source: str | Path) -> tuple[Scalings, dict[str, Any]]:
        """Return scalings and card; raise OSError, ValueError, KeyError or TypeError if none."""


def read_card(folder: str | Path) -> dict[str, Any] | None:
    """Return the card of a folder; None if it has none or it cannot be read."""
    try:
        card = json.loads((Path(folder) / "card.json").read_text())
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) else None
