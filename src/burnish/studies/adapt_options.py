"""How a guide is adapted: the options, and the training that follows from them. No torch here."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from burnish.errors import InputError
from burnish.schema import Range, check
from burnish.training.config import AttackConfig, GrowthConfig, JointConfig, TrainingConfig

# The radii of attacks and refinement are for this many values, an image of 32x32x3.
VALUES = 3 * 32 * 32


@dataclass(frozen=True)
class AdaptOptions:
    """How a guide is adapted."""

    num_steps: Annotated[int, Range(1)] = 400
    """Steps of training, at most; it stops when validation no longer improves."""
    minutes: Annotated[float | None, Range(0, above=True)] = None
    """In place of num_steps: about how long training may take on this machine."""
    labels: Literal["given", "pseudo"] = "given"
    """Classes of the images: given by the files, or pseudo, the opinion of the guide to start
    from, for images without labels."""
    match_spectrum: bool = True
    """Train for images that a linear filter has first given the spectrum of real ones."""
    num_tuning: Annotated[int, Range(0)] = 2000
    """Images of each side that are kept to find the dose, about a fifth at most; 0 for none."""
    batch_size: Annotated[int, Range(2)] = 64
    """Images of each side per step."""
    learning_rate: Annotated[float, Range(0, above=True)] = 1e-3
    """Peak learning rate."""
    seed: int = 0
    """Seed of the split and of the training."""

    def __post_init__(self) -> None:
        check(self)
        if 0 < self.num_tuning < 200:
            raise InputError(f"num_tuning must be 0 or at least 200, not {self.num_tuning}")


def scale_of(shape: tuple[int, ...]) -> float:
    """Return the factor on radii that keeps the change of a pixel, for images ``(C, H, W)``."""
    return math.sqrt(math.prod(shape) / VALUES)


def training_of(
    options: AdaptOptions, start: str, scale: float, num_steps: int, precision: Any
) -> JointConfig:
    """Return the joint training that an adaptation consists of.

    Args:
        options: As given.
        start: Guide to start from.
        scale: See :func:`scale_of`.
        num_steps: Steps at most; it stops after four validations without a better score.
        precision: ``float32`` or ``bfloat16``.
    """
    library = start.partition("/")[0] in ("timm", "torchvision")
    network = {"name": "pretrained", "source": start, "pretrained": True} if library else {}
    return JointConfig(
        network=network,
        start_from="" if library else start,
        match_spectrum=options.match_spectrum,
        real_attack=AttackConfig(
            eps=scale, step_size=0.5 * scale, num_steps=2, precondition="spectrum"
        ),
        generated_attack=AttackConfig(
            eps=math.inf, step_size=0.2 * scale, num_steps=3, precondition="spectrum",
            random_start=False,
        ),
        growth=GrowthConfig(by="auc", every=25, threshold=0.8, max_steps=15),
        training=TrainingConfig(
            num_steps=num_steps, batch_size=options.batch_size, precision=precision,
            learning_rate=options.learning_rate, warmup_steps=min(20, num_steps // 5),
            ema_decay=0.98, channels_last=True, flip=True, seed=options.seed,
            log_every=10, validate_every=max(1, num_steps // 4), save_every=50, patience=4,
        ),
    )  # fmt: skip
