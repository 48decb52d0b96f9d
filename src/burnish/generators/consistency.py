"""Consistency models: images from noise in one or a few network calls.

Song et al. 2023, "Consistency Models", https://arxiv.org/abs/2303.01469. Network and files are
those of the ``ConsistencyModelPipeline`` of diffusers: each library loads what the other saved.
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from burnish.documents import load_json
from burnish.errors import InputError, shown
from burnish.generators.unet import Scalings, UNetGenerator
from burnish.generators.unet_files import read_card
from burnish.schema import read
from burnish.seeds import Streams

if TYPE_CHECKING:
    from diffusers import UNet2DModel


class ConsistencyModel(UNetGenerator):
    """A generator with a consistency function f(x, sigma), the end of the path through x.

    Args:
        unet: The network; set to eval mode.
        scalings: The range of noise levels it was trained for.
        num_steps: Network calls per image, 1 to the length of the table of noise levels.
        card: Facts about its training, stored beside the weights.
        timesteps: Places in that table, in place of ``num_steps``: falling, the last one 0, the
            noisiest; as the ``timesteps`` of diffusers, e.g. (22, 0).
    """

    kind, consistent = "consistency model", True

    def __init__(
        self,
        unet: UNet2DModel,
        scalings: Scalings | None = None,
        num_steps: int = 1,
        card: Mapping[str, Any] | None = None,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        scalings = scalings or Scalings()
        most = scalings.num_train_timesteps
        if timesteps is not None:
            check_timesteps(timesteps, most)
            num_steps = len(timesteps)
        if not 1 <= num_steps <= most:
            raise InputError(f"a consistency model takes 1 to {most} steps, not {num_steps}")
        super().__init__(unet, scalings, num_steps, card)
        places = timesteps and timesteps[::-1]
        self.sigmas = scalings.levels(places) if places else scalings.schedule(num_steps)

    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        r"""Return images ``[count, C, H, W]`` in [0, 1].

        The first image is :math:`x = f(\sigma_{max} z, \sigma_{max})`. Each further noise level
        :math:`s` of the schedule adds noise and removes it again (Song et al. 2023, algorithm 1):

        .. math:: x \leftarrow f(x + \sqrt{s^2 - \sigma_{min}^2} \, z', s)
        """
        device = self.device
        # As exact as the times of diffusers, where the device can.
        exact = torch.float32 if device.type == "mps" else torch.float64
        images = torch.zeros(count, *self.image_shape, device=device)
        for index, sigma in enumerate(self.sigmas):
            spread = sigma if index == 0 else (sigma**2 - self.scalings.sigma_min**2) ** 0.5
            images = images + spread * noise.normal(self.image_shape).to(device)
            levels = torch.full((count,), sigma, device=device, dtype=exact)
            # The scheduler of diffusers clamps each estimate by default.
            images = self.function(images, levels, labels).clamp(-1, 1)
        return images / 2 + 0.5

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return whether a folder holds a pipeline of diffusers."""
        return (folder / "model_index.json").exists()

    def save_parts(self, folder: Path, unet: UNet2DModel) -> None:
        """Write what ``ConsistencyModelPipeline.from_pretrained`` of diffusers loads."""
        from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline

        scheduler = CMStochasticIterativeScheduler(**dataclasses.asdict(self.scalings))
        ConsistencyModelPipeline(unet, scheduler).save_pretrained(folder)

    @classmethod
    def read_parts(cls, folder: Path) -> tuple[Scalings, dict[str, Any]]:
        """Return the scalings of the scheduler and the card, empty if diffusers saved it."""
        path = folder / "scheduler" / "scheduler_config.json"
        config, names = load_json(path), [field.name for field in dataclasses.fields(Scalings)]
        if not isinstance(config, dict) or not config.keys() >= set(names):
            raise InputError(f"{path} does not give {', '.join(names)}")
        if config.get("s_noise", 1) != 1 or config.get("clip_denoised", True) is not True:
            raise InputError(f"{path}: only s_noise 1 and clip_denoised true are known here")
        scalings = read(Scalings, {name: config[name] for name in names}, str(path))
        return scalings, read_card(folder) or {}


def check_timesteps(timesteps: Sequence[int], num_levels: int) -> None:
    """Refuse time steps that are no way through a table of noise levels.

    Raises:
        InputError: They do not fall, leave the table, or do not end at 0.
    """
    falling = all(after < before for before, after in pairwise(timesteps))
    if not timesteps or not falling or timesteps[-1] != 0:
        raise InputError(
            f"timesteps are falling numbers that end with 0, where the noise is largest, e.g. "
            f"22,0; not {shown(list(timesteps))}"
        )
    if timesteps[0] >= num_levels:
        raise InputError(f"timesteps are 0 .. {num_levels - 1} for this model, not {timesteps[0]}")
