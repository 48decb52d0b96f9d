"""Diffusion models: images from noise in several calls of a denoiser (Karras et al. 2022, EDM).

The teacher of a consistency model is one. Its file is a folder: ``unet/`` as diffusers writes it
and a card that knows the noise range.
"""

# pyright: reportPrivateImportUsage=false

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from burnish.errors import InputError, unknown
from burnish.generators.scalings import Scalings
from burnish.generators.unet import UNetGenerator, load_unet, read_card
from burnish.seeds import Streams
from burnish.training.losses.consistency import heun_step

__all__ = ["SOLVERS", "DiffusionModel", "solve"]

SOLVERS = ("heun", "euler")
KIND = "diffusion model"


class DiffusionModel(UNetGenerator):
    """A generator: ``sample(seeds, labels) -> Samples``, all randomness in the first noise.

    Args:
        unet: The network, in eval mode from here on.
        scalings: The noise range it was trained for.
        num_steps: Steps per image, from 1 on; 18 are EDM's for 32 x 32 images.
        solver: ``heun``, two network calls per step but the last, or ``euler`` (DDIM), one.
        card: Facts about its training, kept beside the weights.

    Raises:
        InputError: The number of steps is below 1, or there is no such solver.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        scalings: Scalings | None = None,
        num_steps: int = 18,
        solver: str = "heun",
        card: Mapping[str, Any] | None = None,
    ) -> None:
        if num_steps < 1:
            raise InputError(f"a diffusion model takes 1 step or more, not {num_steps}")
        if solver not in SOLVERS:
            raise unknown("solver", solver, SOLVERS)
        nfe = 2 * num_steps - 1 if solver == "heun" else num_steps
        super().__init__(unet, scalings, False, nfe, card)
        self.num_steps, self.solver = num_steps, solver
        self.card |= {"kind": KIND, "scalings": dataclasses.asdict(self.scalings)}

    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1], the ends of the ODE's paths."""
        # With as many levels in the table as steps, these are EDM's own (equation 5).
        sigmas = [*self.scalings.schedule(self.num_steps, self.num_steps), 0.0]
        start = sigmas[0] * noise.normal(self.image_shape).to(self.device)
        images = solve(self._function, start, sigmas, labels, self.solver)
        return images.clamp(-1, 1) / 2 + 0.5

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return whether a folder says by its card that it holds a diffusion model."""
        return (read_card(folder) or {}).get("kind") == KIND

    @classmethod
    def load(
        cls, folder: str | Path, num_steps: int = 18, solver: str = "heun"
    ) -> "DiffusionModel":
        """Load what ``save`` wrote.

        Raises:
            InputError: Nothing loadable is there.
        """
        card = read_card(folder) or {}
        try:
            if not cls.is_in(Path(folder)):
                raise ValueError("no card.json there says that it is one")
            scalings, unet = Scalings(**card["scalings"]), load_unet(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{folder}: {str(error).splitlines()[0]}"
            raise InputError(f"no diffusion model can be loaded from {reason}") from error
        return cls(unet, scalings, num_steps, solver, card)


def solve(
    denoise: nn.Module,
    noisy: Tensor,
    sigmas: Sequence[float],
    labels: Tensor | None,
    solver: str = "heun",
) -> Tensor:
    """Follow the probability-flow ODE, dx/ds = (x - D(x, s)) / s (EDM algorithm 1).

    Euler's step is that of DDIM (Song et al. 2021, equation 13). The step to level 0 is Euler's
    always, as the slope there is not defined.

    Args:
        denoise: ``(noisy, sigma, labels) -> denoised``.
        noisy: ``[B, C, H, W]`` at the first level, data in [-1, 1] plus noise.
        sigmas: Falling noise levels; the last may be 0.
        labels: ``[B]`` or None.
        solver: ``heun`` or ``euler``.
    """
    for here, there in pairwise(sigmas):
        t, r = (noisy.new_full((len(noisy),), sigma) for sigma in (here, there))
        if solver == "heun" and there > 0:
            noisy = heun_step(denoise, noisy, t, r, labels)
        else:
            noisy = torch.lerp(denoise(noisy, t, labels), noisy, there / here)
    return noisy
