"""The files of a U-Net: read within bounds and compared with each other before it is built."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch

from burnish.checkpoint import Card, load_weights
from burnish.documents import load_json
from burnish.errors import InputError
from burnish.networks.build import outline
from burnish.networks.sizes import Blocks, Channels, Classes, Share, Width, Widths
from burnish.schema import Range, read

if TYPE_CHECKING:
    from diffusers import UNet2DModel


@dataclass(frozen=True)
class UNetConfig:
    """What the ``config.json`` of a ``UNet2DModel`` says of its size; the rest is left to it."""

    open = True
    sample_size: Annotated[int | None, Range(1, 1024)] = None
    in_channels: Channels = 3
    out_channels: Channels = 3
    num_class_embeds: Classes | None = None
    block_out_channels: Widths = (224, 448, 672, 896)
    layers_per_block: Blocks = 2
    norm_num_groups: Width = 32
    attn_norm_num_groups: Width | None = None
    attention_head_dim: Width | None = 8
    time_embedding_dim: Width | None = None
    num_train_timesteps: Annotated[int | None, Range(1, 1e6)] = None
    dropout: Share = 0.0
    norm_eps: Annotated[float, Range(0, 1, above=True)] = 1e-5
    downsample_padding: Annotated[int, Range(0, 1)] = 1
    freq_shift: Annotated[float, Range(0, 1)] = 0
    mid_block_scale_factor: Annotated[float, Range(1e-3, 1e3)] = 1
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ()
    up_block_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sample_size is None:
            raise InputError("sample_size, the size of its images, is missing")
        if not 1 <= len(self.block_out_channels) <= 10:
            raise InputError("block_out_channels are the channels at 1 to 10 resolutions")


def load_unet(folder: Path) -> UNet2DModel:
    """Return the U-Net of ``config.json`` and ``diffusion_pytorch_model.safetensors``.

    Raises:
        InputError: A file is missing or broken, or they do not fit each other.
    """
    from diffusers import UNet2DModel

    path = folder / "config.json"
    values = load_json(path)
    if not isinstance(values, dict) or values.get("_class_name") != "UNet2DModel":
        raise InputError(f"{path} does not describe a UNet2DModel")
    size: Any = values.get("sample_size")
    sizes: list[Any] = size if isinstance(size, list) and len(size) == 2 else [size]
    for one in sizes:
        read(UNetConfig, {**values, "sample_size": one}, str(path))
    known = inspect.signature(UNet2DModel.__init__).parameters
    arguments = {name: value for name, value in values.items() if name in known}

    def make() -> Any:
        return UNet2DModel(**arguments)

    blank = outline(make, f"the U-Net of {path}")
    _try(blank, [values.get("in_channels", 3), sizes[0], sizes[-1]], path)
    return load_weights(folder / "diffusion_pytorch_model.safetensors", blank, make)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def _try(unet: Any, shape: list[int], path: Path) -> None:
    """Refuse a network that does not give what it takes; on the meta device that costs nothing."""
    images, ones = torch.zeros(1, *shape, device="meta"), torch.ones(1, device="meta")
    labels = None if unet.config["num_class_embeds"] is None else ones.long()
    try:
        found = list(unet.eval()(images, ones, class_labels=labels).sample.shape[1:])
    except Exception as error:  # whatever diffusers and torch say of such a network
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the U-Net of {path} takes no images of {shape}: {reason}") from error
    if found != shape:
        raise InputError(f"the U-Net of {path} makes images of {found} from noise of {shape}")


def read_card(folder: str | Path) -> dict[str, Any] | None:
    """Return the card of a folder; None if it has none.

    Raises:
        InputError: It is no card.
    """
    path = Path(folder) / "card.json"
    if not path.exists():
        return None
    card = load_json(path)
    read(Card, card, str(path))
    return card
