"""Gradient ascent on a per-image objective inside a ball: PGD and SGLD.

    PGD    x <- clamp(project(x + step_size * g / ||g||))                    (Madry et al. 2018)
    SGLD   x <- clamp(project(x + step_size * g + noise_std * z)), z ~ N(0, I) (Welling & Teh 2011)

with g the gradient of the objective. This is the refinement *and* the attack inside the training
of the joint model; only the objective differs. It knows neither networks nor labels: an objective
maps images ``[B, C, H, W]`` to one value per image ``[B]``, to be maximised. Gradients are of the
sum over the batch, never the mean: an image's path does not depend on its companions.

Start images are clamped to [0, 1] before the ball is centred on them. The ball and the box then
share a point, and neither projecting nor clamping can undo the other.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "Ball", "Iterate", "L2Ball", "LinfBall", "Objective", "Unbounded", "Update", "last", "pgd",
    "sgld",
]  # fmt: skip

Objective = Callable[[Tensor], Tensor]

# Below this norm a gradient carries no direction; such an image stays where it is.
NORM_FLOOR = 1e-12


class Ball(Protocol):
    """Where images may go: within ``eps`` of where they began."""

    @property
    def eps(self) -> float: ...  # noqa: D102

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a random point of the ball around each image."""
        ...

    def normalize(self, gradient: Tensor) -> Tensor:
        """Return the unit step that raises the objective most."""
        ...

    def project(self, images: Tensor, center: Tensor) -> Tensor:
        """Return the nearest points within the ball around ``center``."""
        ...


@dataclass(frozen=True)
class L2Ball:
    """||x - center||_2 <= eps over all of an image's values, in [0, 1] pixel units."""

    eps: float

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return points uniform in the ball: a random direction, radius eps u^(1/d)."""
        direction = self.normalize(_draw(torch.randn, images, generator))
        radius = torch.rand(len(images), generator=generator).to(images)
        return images + _spread(self.eps * radius ** (1 / images[0].numel()), images) * direction

    def normalize(self, gradient: Tensor) -> Tensor:
        """Return g / ||g||_2, or 0 where g has no direction."""
        norm = _norm(gradient)
        return torch.where(norm > NORM_FLOOR, gradient / norm.clamp(min=NORM_FLOOR), 0.0)

    def project(self, images: Tensor, center: Tensor) -> Tensor:
        """Shorten the way from the center to eps where it is longer."""
        moved = images - center
        return center + moved * (self.eps / _norm(moved).clamp(min=NORM_FLOOR)).clamp(max=1)


@dataclass(frozen=True)
class LinfBall:
    """|x - center| <= eps for every value, in [0, 1] pixel units."""

    eps: float

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return points uniform in the cube."""
        return images + self.eps * (2 * _draw(torch.rand, images, generator) - 1)

    def normalize(self, gradient: Tensor) -> Tensor:
        """Return the sign of the gradient."""
        return gradient.sign()

    def project(self, images: Tensor, center: Tensor) -> Tensor:
        """Clamp every value's movement to eps."""
        return center + (images - center).clamp(-self.eps, self.eps)


@dataclass(frozen=True)
class Unbounded(L2Ball):
    """No bound; steps are normalised as in L2."""

    eps: float = math.inf

    def project(self, images: Tensor, center: Tensor) -> Tensor:
        """Return the images."""
        del center
        return images


@dataclass(frozen=True)
class Update:
    """One step of the ascent, given the gradient."""

    ball: Ball
    step_size: float
    """Length of the step where normalized, else the factor on the gradient."""
    normalized: bool = True
    """PGD; without it SGLD."""
    noise_std: float = 0.0
    clamp_each: bool = True
    """Clamp to [0, 1]; what is not clamped here must be in the end."""

    def __call__(
        self, images: Tensor, gradient: Tensor, center: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Return the images ``[B, C, H, W]`` a step further; noise is standard normal."""
        move = self.step_size * (self.ball.normalize(gradient) if self.normalized else gradient)
        if noise is not None:
            move = move + self.noise_std * noise
        moved = self.ball.project(images + move, center)
        return moved.clamp(0, 1) if self.clamp_each else moved


@dataclass(frozen=True)
class Iterate:
    """Where the images are after a step.

    Args:
        step: Steps made so far, from 1 on.
        images: ``[B, C, H, W]``; in [0, 1], save before the last step of sgld without clamp_each.
        values: ``[B]``, the objective at the point that the step was taken *from*.
        moved: ``[B]`` bool, False for images that had been stopped.
    """

    step: int
    images: Tensor
    values: Tensor
    moved: Tensor


def pgd(
    objective: Objective,
    images: Tensor,
    ball: Ball,
    step_size: float,
    num_steps: int,
    *,
    random_start: bool = False,
    generator: torch.Generator | None = None,
    stop: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Iterate]:
    """Climb with steps of fixed length; yields after each step.

    Args:
        objective: ``images -> [B]``, maximised.
        images: ``[B, C, H, W]``; clamped to [0, 1] first.
        ball: Centred on the clamped images.
        step_size: Length of one step, in the ball's norm and unit.
        num_steps: How many steps, or fewer if all images have been stopped; 0 yields nothing.
        random_start: Begin at a random point of the ball.
        generator: Of the random start; drawn on the CPU.
        stop: ``values -> [B]`` bool, asked before each step; an image it names stays for good.

    Raises:
        ValueError: A random start was asked for, but the ball is infinite.
    """
    if random_start and not math.isfinite(ball.eps):
        raise ValueError("there is no uniform point of an infinite ball to start at")

    start = images.clamp(0, 1)
    first = ball.random_start(start, generator).clamp(0, 1) if random_start else start
    return _climb(objective, first, start, Update(ball, step_size), num_steps, stop)


def sgld(
    objective: Objective,
    images: Tensor,
    ball: Ball,
    step_size: float,
    num_steps: int,
    *,
    noise_std: float = 0.0,
    noise: Callable[[], Tensor] | None = None,
    stop: Callable[[Tensor], Tensor] | None = None,
    clamp_each: bool = True,
) -> Iterator[Iterate]:
    """Climb the raw gradient with Gaussian noise; yields after each step.

    Args:
        objective: ``images -> [B]``, maximised.
        images: ``[B, C, H, W]``; clamped to [0, 1] first.
        ball: Centred on the clamped images.
        step_size: Factor on each image's own gradient.
        num_steps: As for :func:`pgd`.
        noise_std: Standard deviation of the noise of one step, per value.
        noise: Draws ``[B, C, H, W]`` standard normal numbers; required if ``noise_std`` > 0.
        stop: As for :func:`pgd`.
        clamp_each: Clamp to [0, 1] after each step, or only after the last.

    Raises:
        ValueError: ``noise_std`` is above 0 and there is no ``noise``.
    """
    if noise_std > 0 and noise is None:
        raise ValueError("sgld with noise_std > 0 needs a source of noise")

    update = Update(ball, step_size, False, noise_std, clamp_each)
    start = images.clamp(0, 1)
    drawn = noise if noise_std > 0 else None
    return _climb(objective, start, start, update, num_steps, stop, drawn)


def last(iterates: Iterator[Iterate], start: Tensor) -> Tensor:
    """Run to the end and return the final images; ``start`` if no step was made."""
    for iterate in iterates:
        start = iterate.images
    return start


def _climb(
    objective: Objective,
    images: Tensor,
    center: Tensor,
    update: Update,
    num_steps: int,
    stop: Callable[[Tensor], Tensor] | None,
    noise: Callable[[], Tensor] | None = None,
) -> Iterator[Iterate]:
    moving = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for count in range(1, num_steps + 1):
        values, gradient = _value_and_gradient(objective, images)
        if stop is not None:
            moving = moving & ~stop(values)
        moved = update(images, gradient, center, noise().to(gradient) if noise else None)
        images = torch.where(_spread(moving, images), moved, images)
        final = count == num_steps or (stop is not None and not bool(moving.any()))
        if final:
            # Stopped images too: without clamp_each they may have stopped outside the box.
            images = images.clamp(0, 1)
        yield Iterate(count, images, values, moving)
        if final:
            return


def _value_and_gradient(objective: Objective, images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        values = objective(images)
        (gradient,) = torch.autograd.grad(values.sum(), images)
    return values.detach(), gradient


def _norm(values: Tensor) -> Tensor:
    return _spread(values.flatten(1).norm(dim=1), values)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _draw(draw: Callable[..., Tensor], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return draw(like.shape, generator=generator).to(like)
