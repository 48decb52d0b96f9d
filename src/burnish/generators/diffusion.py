"""Diffusion models: images from noise in several calls of a denoiser.

Karras et al. 2022 (EDM), "Elucidating the Design Space of Diffusion-Based Generative Models",
https://arxiv.org/abs/2206.00364. The teacher of a consistency model is a diffusion model. It is
stored as a folder: ``unet/`` as diffusers writes it, and a card with the noise range.
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from burnish.errors import InputError, unknown
from burnish.generators.scalings import Scalings
from burnish.generators.unet import UNetGenerator, load_unet, read_card
from burnish.seeds import Streams

if TYPE_CHECKING:
    from diffusers import UNet2DModel

__all__ = ["SOLVERS", "DiffusionModel", "heun_step", "solve"]

SOLVERS = ("heun", "euler")
KIND = "diffusion model"


class DiffusionModel(UNetGenerator):
    """A generator that follows the probability-flow ODE; all randomness is in the first noise.

    Args:
        unet: The network; set to eval mode.
        scalings: The range of noise levels it was trained for.
        num_steps: Steps per image, from 1 on. EDM takes 18 for images of 32 x 32.
        solver: ``heun``, two network calls per step except the last; or ``euler`` (DDIM), one.
        card: Facts about its training, stored beside the weights.

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
        # A table of as many levels as steps is the schedule of EDM (equation 5).
        sigmas = [*self.scalings.schedule(self.num_steps, self.num_steps), 0.0]
        start = sigmas[0] * noise.normal(self.image_shape).to(self.device)
        images = solve(self.function, start, sigmas, labels, self.solver)
        return images.clamp(-1, 1) / 2 + 0.5

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return whether the card of a folder says that it holds a diffusion model."""
        return (read_card(folder) or {}).get("kind") == KIND

    @classmethod
    def load(cls, folder: str | Path, num_steps: int = 18, solver: str = "heun") -> DiffusionModel:
        """Load what :meth:`save` wrote.

        Raises:
            InputError: There is no such model, or it cannot be loaded.
        """
        card = read_card(folder) or {}
        try:
            if not cls.is_in(Path(folder)):
                raise ValueError("it has no card.json of a diffusion model")
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
    r"""Follow the probability-flow ODE through a list of noise levels.

    .. math:: dx / d\sigma = (x - D(x, \sigma)) / \sigma

    Heun's step is that of EDM, algorithm 1. Euler's step is that of DDIM (Song et al. 2021,
    "Denoising Diffusion Implicit Models", equation 13, https://arxiv.org/abs/2010.02502). The step
    to level 0 is always Euler's, because the slope at 0 is not defined.

    Args:
        denoise: ``(noisy, sigma, labels) -> denoised``.
        noisy: ``[B, C, H, W]`` at the first level, data in [-1, 1] plus noise.
        sigmas: Falling noise levels; the last may be 0.
        labels: ``[B]`` int64; None without classes.
        solver: ``heun`` or ``euler``.

    Returns:
        The images at the last level, of the same shape.
    """
    for here, there in pairwise(sigmas):
        t, r = (noisy.new_full((len(noisy),), sigma) for sigma in (here, there))
        if solver == "heun" and there > 0:
            noisy = heun_step(denoise, noisy, t, r, labels)
        else:
            noisy = torch.lerp(denoise(noisy, t, labels), noisy, there / here)
    return noisy


def heun_step(
    denoise: nn.Module, noisy: Tensor, t: Tensor, r: Tensor, labels: Tensor | None
) -> Tensor:
    """Move images from noise level t to r along the probability-flow ODE (EDM algorithm 1).

    Args:
        denoise: ``(noisy, sigma, labels) -> denoised``.
        noisy: ``[B, C, H, W]`` at level t.
        t: ``[B]`` noise levels.
        r: ``[B]`` lower noise levels, above 0.
        labels: ``[B]`` int64; None without classes.

    Returns:
        The images at level r, of the same shape.
    """
    t_, r_ = t.view(-1, 1, 1, 1), r.view(-1, 1, 1, 1)
    slope = (noisy - denoise(noisy, t, labels)) / t_
    euler = noisy + (r_ - t_) * slope
    slope_there = (euler - denoise(euler, r, labels)) / r_
    return noisy + (r_ - t_) * (slope + slope_there) / 2
