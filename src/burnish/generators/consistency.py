"""Consistency models: images from noise in one network call, or a few (Song et al. 2023).

The network is diffusers' ``UNet2DModel`` and the files are those of diffusers'
``ConsistencyModelPipeline``, so each side loads what the other saved.
"""

# pyright: reportPrivateImportUsage=false

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    UNet2DModel,
)
from torch import Tensor

from burnish.checkpoint import write_aside
from burnish.errors import InputError
from burnish.generators.scalings import Preconditioned, Scalings
from burnish.samples import Samples
from burnish.seeds import Streams

__all__ = ["ConsistencyModel", "build_unet"]


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
    """Build a class-conditional U-Net.

    Args:
        image_size: Height and width; divisible by 2 ** (len(widths) - 1).
        in_channels: 1 for grey, 3 for RGB.
        num_classes: Number of classes, or None for an unconditional model.
        widths: Channels of each resolution, the first at full size.
        layers_per_block: Residual blocks per resolution.
        attention: Self-attention at the lowest resolution.
        norm_num_groups: Groups of the group normalisations; divides every width.
        dropout: Probability of dropping an activation in training.
    """
    down = ["DownBlock2D"] * len(widths)
    up = ["UpBlock2D"] * len(widths)
    if attention:
        down[-1], up[0] = "AttnDownBlock2D", "AttnUpBlock2D"
    return UNet2DModel(
        sample_size=image_size,
        in_channels=in_channels,
        out_channels=in_channels,
        layers_per_block=layers_per_block,
        block_out_channels=tuple(widths),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        num_class_embeds=num_classes,
        norm_num_groups=norm_num_groups,
        attention_head_dim=min(32, widths[-1]),
        add_attention=attention,
        resnet_time_scale_shift="scale_shift",
        dropout=dropout,
    )


class ConsistencyModel:
    """A generator: ``sample(seeds, labels) -> Samples``.

    Args:
        unet: The network, in eval mode from here on.
        scalings: The noise range it was trained for.
        num_steps: Network calls per image, 1 to 40.
        card: Facts about its training, kept beside the weights.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        scalings: Scalings | None = None,
        num_steps: int = 1,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        if not 1 <= num_steps <= 40:
            raise InputError(f"a consistency model takes 1 to 40 steps, not {num_steps}")
        self.unet = unet.eval()
        self.scalings = scalings or Scalings()
        self.nfe = num_steps
        self.card = dict(card or {})
        self._function = Preconditioned(unet, self.scalings, consistent=True)

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None."""
        return self.unet.config["num_class_embeds"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        size = self.unet.config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return self.unet.config["in_channels"], height, width

    def to(self, device: str) -> "ConsistencyModel":
        """Move the network to a device and return this model."""
        self.unet.to(device)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return self

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], labels: Tensor | None = None) -> Samples:
        """Make one image per seed; image i is a function of seed i, label i and the weights.

        x = f(sigma_max z, sigma_max); then for each further level s of the schedule
        x = f(x + sqrt(s^2 - sigma_min^2) z', s) (Song et al. 2023, algorithm 1).

        Args:
            seeds: One per image.
            labels: ``[B]`` int64; None draws each from its seed's own stream.

        Raises:
            InputError: There is not one label per seed, or one is not of this model's classes.
        """
        device = next(self.unet.parameters()).device
        num_classes = self.num_classes
        if labels is not None:
            if num_classes is None:
                raise InputError("this model knows no classes; sample without labels")
            if labels.shape != (len(seeds),):
                raise InputError(f"{len(seeds)} seeds but labels of shape {list(labels.shape)}")
            if not bool(((labels >= 0) & (labels < num_classes)).all()):
                raise InputError(f"labels must be 0 .. {num_classes - 1}")
        elif num_classes is not None:
            labels = Streams(seeds, "label").integers(num_classes)
        streams = Streams(seeds, "noise")
        on_device = None if labels is None else labels.to(device)
        images = torch.zeros(len(seeds), *self.image_shape, device=device)
        sigmas = self.scalings.schedule(self.nfe)
        for index, sigma in enumerate(sigmas):
            spread = sigma if index == 0 else (sigma**2 - self.scalings.sigma_min**2) ** 0.5
            images = images + spread * streams.normal(self.image_shape).to(device)
            levels = torch.full((len(seeds),), sigma, device=device)
            # Clamping each estimate is what diffusers' scheduler does by default.
            images = self._function(images, levels, on_device).clamp(-1, 1)
        return Samples(images.cpu() / 2 + 0.5, labels, torch.tensor(list(seeds)))

    def batches(
        self, seeds: Sequence[int], labels: Tensor | None = None, batch_size: int = 100
    ) -> Iterator[Samples]:
        """Yield the samples of many seeds, ``batch_size`` at a time."""
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            yield self.sample(seeds[part], None if labels is None else labels[part])

    def save(self, folder: Path, half: bool = False) -> None:
        """Write a folder that diffusers' ``ConsistencyModelPipeline.from_pretrained`` loads.

        Args:
            folder: Where; a pipeline that is there already is replaced whole.
            half: Store float16 weights, half the bytes.

        Raises:
            InputError: The folder holds something else.
        """
        ours = (folder / "model_index.json").exists()
        if folder.is_dir() and any(folder.iterdir()) and not ours:
            raise InputError(f"{folder} holds other files; give a new folder")
        scheduler = CMStochasticIterativeScheduler(
            sigma_min=self.scalings.sigma_min,
            sigma_max=self.scalings.sigma_max,
            sigma_data=self.scalings.sigma_data,
            rho=self.scalings.rho,
        )
        unet: Any = UNet2DModel.from_config(self.unet.config)
        unet.load_state_dict(self.unet.state_dict())
        if half:
            unet.half()
        with write_aside(folder) as aside:
            ConsistencyModelPipeline(unet, scheduler).save_pretrained(aside)
            (aside / "card.json").write_text(json.dumps(self.card, indent=2) + "\n")

    @classmethod
    def load(cls, source: str | Path, num_steps: int = 1) -> "ConsistencyModel":
        """Load a ``ConsistencyModelPipeline`` from a folder or, by its name, from the hub.

        Raises:
            InputError: Nothing loadable is there.
        """
        where: dict[str, Any] = {"local_files_only": Path(source).exists()}
        try:
            # Part by part: diffusers would run Python files that it finds beside a whole pipeline.
            config: Any = CMStochasticIterativeScheduler.load_config(
                str(source), subfolder="scheduler", **where
            )
            names = ("sigma_min", "sigma_max", "sigma_data", "rho")
            scalings = Scalings(*(config[name] for name in names))
            unet = UNet2DModel.from_pretrained(
                str(source),
                subfolder="unet",
                torch_dtype=torch.float32,
                use_safetensors=True,
                **where,
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"no consistency model can be loaded from {source}: {reason}"
            ) from error
        card_path = Path(source) / "card.json"
        card = (
            json.loads(card_path.read_text()) if card_path.is_file() else {"source": str(source)}
        )
        return cls(unet, scalings, num_steps, card)
