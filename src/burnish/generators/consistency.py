"""Consistency models: images from noise in one network call, or a few (Song et al. 2023).

The network is diffusers' ``UNet2DModel`` and the files are those of diffusers'
``ConsistencyModelPipeline``, so each side loads what the other saved.
"""

# pyright: reportPrivateImportUsage=false

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    UNet2DModel,
)
from torch import Tensor

from burnish.errors import InputError
from burnish.generators.scalings import Scalings
from burnish.generators.unet import UNetGenerator, load_unet, read_card
from burnish.seeds import Streams

__all__ = ["ConsistencyModel"]


class ConsistencyModel(UNetGenerator):
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
        super().__init__(unet, scalings, True, num_steps, card)

    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1].

        x = f(sigma_max z, sigma_max); then for each further level s of the schedule
        x = f(x + sqrt(s^2 - sigma_min^2) z', s) (Song et al. 2023, algorithm 1).
        """
        device = self.device
        images = torch.zeros(count, *self.image_shape, device=device)
        for index, sigma in enumerate(self.scalings.schedule(self.nfe)):
            spread = sigma if index == 0 else (sigma**2 - self.scalings.sigma_min**2) ** 0.5
            images = images + spread * noise.normal(self.image_shape).to(device)
            levels = torch.full((count,), sigma, device=device)
            # Clamping each estimate is what diffusers' scheduler does by default.
            images = self._function(images, levels, labels).clamp(-1, 1)
        return images / 2 + 0.5

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return whether a folder holds a pipeline of diffusers."""
        return (folder / "model_index.json").exists()

    def save_parts(self, folder: Path, unet: UNet2DModel) -> None:
        """Write what diffusers' ``ConsistencyModelPipeline.from_pretrained`` loads."""
        scheduler = CMStochasticIterativeScheduler(
            sigma_min=self.scalings.sigma_min,
            sigma_max=self.scalings.sigma_max,
            sigma_data=self.scalings.sigma_data,
            rho=self.scalings.rho,
        )
        ConsistencyModelPipeline(unet, scheduler).save_pretrained(folder)

    @classmethod
    def load(cls, source: str | Path, num_steps: int = 1) -> "ConsistencyModel":
        """Load a ``ConsistencyModelPipeline`` from a folder or, by its name, from the hub.

        Raises:
            InputError: Nothing loadable is there.
        """
        try:
            # Part by part: diffusers would run Python files that it finds beside a whole pipeline.
            config: Any = CMStochasticIterativeScheduler.load_config(
                str(source), subfolder="scheduler", local_files_only=Path(source).exists()
            )
            names = ("sigma_min", "sigma_max", "sigma_data", "rho")
            scalings = Scalings(*(config[name] for name in names))
            unet = load_unet(source)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"no consistency model can be loaded from {source}: {reason}"
            ) from error
        return cls(unet, scalings, num_steps, read_card(source) or {"source": str(source)})
