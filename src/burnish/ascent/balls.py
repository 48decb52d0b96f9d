"""Where images may go: within a distance ``eps`` of where they began.

A ball knows three things: a random point inside it, the unit step that raises an objective most,
and the nearest point inside it. Radii are in [0, 1] pixel units, over all values of an image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Below this norm a gradient has no direction; such an image stays where it is.
NORM_FLOOR = 1e-12


class Ball(Protocol):
    """A constraint on the distance between images and their centers."""

    @property
    def eps(self) -> float:
        """The radius."""
        ...

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a random point of the ball around each image; drawn on the CPU."""
        ...

    def normalize(self, gradient: Tensor) -> Tensor:
        """Return the unit step that raises the objective most."""
        ...

    def project(self, images: Tensor, center: Tensor) -> Tensor:
        """Return the nearest points within the ball around ``center``."""
        ...


@dataclass(frozen=True)
class L2Ball:
    """All images with ``||image - center||_2 <= eps``."""

    eps: float

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return points uniform in the ball: a random direction, radius ``eps u^(1/d)``."""
        direction = self.normalize(_draw(torch.randn, images, generator))
        radius = torch.rand(len(images), generator=generator).to(images)
        return (
            images + _per_image(self.eps * radius ** (1 / images[0].numel()), images) * direction
        )

    def normalize(self, gradient: Tensor) -> Tensor:
        """Return ``g / ||g||_2``, or 0 where the gradient has no direction."""
        norm = _norm(gradient)
        return torch.where(norm > NORM_FLOOR, gradient / norm.clamp(min=NORM_FLOOR), 0.0)

    def project(self, images: Tensor, center: Tensor) -> Tensor:
        """Shorten the movement from the center to ``eps`` where it is longer."""
        moved = images - center
        return center + moved * (self.eps / _norm(moved).clamp(min=NORM_FLOOR)).clamp(max=1)


@dataclass(frozen=True)
class LinfBall:
    """All images with ``|image - center| <= eps`` in every value."""

    eps: float

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return points uniform in the cube."""
        return images + self.eps * (2 * _draw(torch.rand, images, generator) - 1)

    def normalize(self, gradient: Tensor) -> Tensor:
        """Return the sign of the gradient."""
        return gradient.sign()

    def project(self, images: Tensor, center: Tensor) -> Tensor:
        """Clamp every value's movement to ``eps``."""
        return center + (images - center).clamp(-self.eps, self.eps)


@dataclass(frozen=True)
class Unbounded(L2Ball):
    """All images; steps are normalized as in L2."""

    eps: float = math.inf

    def project(self, images: Tensor, center: Tensor) -> Tensor:
        """Return the images."""
        del center
        return images


def ball_of(norm: str, eps: float | None) -> Ball:
    """Return the ball of a norm, ``l2``, ``linf`` or ``none``, and a radius."""
    if norm == "none" or eps is None:
        return Unbounded()
    return {"l2": L2Ball, "linf": LinfBall}[norm](eps)


def _norm(values: Tensor) -> Tensor:
    return _per_image(values.flatten(1).norm(dim=1), values)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _draw(draw: Callable[..., Tensor], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return draw(like.shape, generator=generator).to(like)
