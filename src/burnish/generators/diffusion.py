"""Diffusion models: images from noise in several calls of a denoiser.

Karras et al. 2022 (EDM), "Elucidating the Design Space of Diffusion-Based Generative Models",
https://arxiv.org/abs/2206.00364. A model is stored as a folder: ``unet/`` as diffusers writes it,
and a card with the noise range.
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
from burnish.generators.unet import Scalings, UNetGenerator
from burnish.generators.unet_files import read_card
from burnish.schema import read
from burnish.seeds import Streams

if TYPE_CHECKING:
    from diffusers import UNet2DModel

SOLVERS = ("heun", "euler")


class DiffusionModel(UNetGenerator):
    """A generator that follows the probability-flow ODE; all randomness is in the first noise.

    Args:
        unet: The network; set to eval mode.
        scalings: The range of noise levels it was trained for.
        num_steps: Steps per image, from 1 on. EDM takes 18 for images of 32 x 32.
        solver: ``heun``, two network calls per step except the last; or ``euler`` (DDIM), one.
        card: Facts about its training, stored beside the weights.
    """

    kind, consistent = "diffusion model", False

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
        super().__init__(unet, scalings, num_steps, card)
        self.nfe = 2 * num_steps - 1 if solver == "heun" else num_steps
        self.solver = solver
        self.card |= {"kind": self.kind, "scalings": dataclasses.asdict(self.scalings)}

    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1], the ends of the ODE's paths."""
        # A table of as many levels as steps is the schedule of EDM (equation 5).
        sigmas = [*self.scalings.schedule(self.num_steps, self.num_steps), 0.0]
        start = sigmas[0] * noise.normal(self.image_shape).to(self.device)
        return solve(self.function, start, sigmas, labels, self.solver).clamp(-1, 1) / 2 + 0.5

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return whether the card of a folder says that it holds a diffusion model."""
        return (read_card(folder) or {}).get("kind") == cls.kind

    def save_parts(self, folder: Path, unet: UNet2DModel) -> None:
        """Write the U-Net alone."""
        unet.save_pretrained(folder / "unet")

    @classmethod
    def read_parts(cls, folder: Path) -> tuple[Scalings, dict[str, Any]]:
        """Return the scalings, which the card holds, and the card."""
        card = read_card(folder) or {}
        if card.get("kind") != cls.kind:
            raise InputError(f"it has no card.json of a {cls.kind}")
        where = f"{folder / 'card.json'}: scalings"
        return read(Scalings, card.get("scalings"), where), card


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
    """Move images from noise levels t to lower ones r > 0, ``[B]`` each (EDM algorithm 1)."""
    t_, r_ = t.view(-1, 1, 1, 1), r.view(-1, 1, 1, 1)
    slope = (noisy - denoise(noisy, t, labels)) / t_
    euler = noisy + (r_ - t_) * slope
    slope_there = (euler - denoise(euler, r, labels)) / r_
    return noisy + (r_ - t_) * (slope + slope_there) / 2
