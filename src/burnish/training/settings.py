"""Settings that trainings share: frozen dataclasses with ranges and help texts; no torch."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from burnish.errors import InputError
from burnish.refinement.settings import AscentSettings
from burnish.schema import Range, check

Positive = Range(0, above=True)
Decay = Range(0, 1, below=True)


class Checked:
    """Settings that are refused out of their ranges."""

    __post_init__ = check


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """One training: length, optimizer, averaging, saving."""

    num_steps: Annotated[int, Range(1, 1e9)] = 10_000
    """Optimizer steps."""
    batch_size: Annotated[int, Range(1, 1e6)] = 64
    """Images per step."""
    learning_rate: Annotated[float, Positive] = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """Decoupled weight decay."""
    momentum: Annotated[float, Decay] = 0.9
    """Decay of AdamW's mean gradient (beta 1); GANs need 0.5 or less."""
    warmup_steps: Annotated[int, Range(0)] = 100
    """Steps over which the learning rate rises from 0."""
    decay: Literal["cosine", "step"] = "cosine"
    """Cosine to 0 over the whole length, or times 0.1 at each milestone."""
    milestones: tuple[int, ...] = ()
    """Steps at which the learning rate drops, with decay: step."""
    gradient_clip: Annotated[float, Range(0, above=True, finite=False)] = 1.0
    """Largest global norm of the gradient; .inf for no clipping."""
    ema_decay: Annotated[float, Decay] = 0.999
    """Weight of the old average in one update of the averaged weights."""
    precision: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Precision inside the network; weights and optimizer stay float32."""
    channels_last: bool = False
    """Store weights channels-last, which is faster for plain convolution networks."""
    flip: bool = False
    """Mirror images left to right with probability 1/2."""
    seed: Annotated[int, Range(1 - 2**63, 2**63 - 1)] = 0
    """Seed of weights, order and noise."""
    log_every: Annotated[int, Range(1)] = 50
    """Steps between lines of log.jsonl."""
    validate_every: Annotated[int, Range(1)] = 500
    """Steps between validations."""
    patience: Annotated[int, Range(0)] = 0
    """Stop after so many validations without a better score; 0 for never."""
    save_every: Annotated[int, Range(1)] = 500
    """Steps between saved states."""


@dataclass(frozen=True)
class AttackConfig(AscentSettings):
    """A projected gradient attack with normalized steps; ``eps: .inf`` for no bound."""

    random_start: bool = True
    """Begin at a random point of the ball."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is None:
            raise InputError("step_size is missing; an attack has no default for it")
        bounded = self.norm != "none" and self.eps is not None and math.isfinite(self.eps)
        if self.random_start and not bounded:
            raise InputError("random_start needs a ball of finite eps; set it to false")


@dataclass(frozen=True)
class GrowthConfig(Checked):
    """How the attack on generated images gets more steps as training goes on."""

    by: Literal["clock", "auc", "never"] = "auc"
    """One more step every so many iterations, or when real is told from generated, or never."""
    every: Annotated[int, Range(1)] = 1000
    """Iterations per additional step, by clock; least number between two, by AUC."""
    threshold: float = 0.8
    """Running AUC at which one step is added."""
    max_steps: Annotated[int, Range(0, 1e6)] = 40
    """No more steps than this."""


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """Random changes of images, the same for real and for generated ones; the default is none.

    Both sides get them, or the discriminator would learn who was changed. Golan et al. publish
    ``min_area: 0.08, mirror: true, upside_down: true, rotation: 180`` for real images alone.
    """

    min_area: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Smallest share of the image that a random crop keeps, which is enlarged to the whole."""
    max_aspect: Annotated[float, Range(1, 100)] = 4 / 3
    """Most that the sides of the crop may differ, as a ratio; the least is its inverse."""
    mirror: bool = False
    """Left to right with probability 1/2."""
    upside_down: bool = False
    """Top to bottom with probability 1/2."""
    rotation: Annotated[float, Range(0, 180)] = 0.0
    """Turn by up to so many degrees either way; what comes in from outside is black."""
