"""How a refiner is distilled: the options, and the training that follows. No torch here."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from burnish.schema import Range, check
from burnish.training.config import TrainingConfig


@dataclass(frozen=True)
class DistillOptions:
    """How a network learns to refine."""

    training_steps: Annotated[int, Range(1, 1e9)] = 1500
    """Steps of training."""
    training_seed: int = 0
    """Seed of the network's weights, of the order and of the images held out."""
    batch_size: Annotated[int, Range(1, 1e6)] = 32
    """Images per step of training."""
    learning_rate: Annotated[float, Range(0, above=True)] = 2e-3
    """Peak learning rate."""
    width: Annotated[int, Range(1, 8192)] = 48
    """Channels between the convolutions."""
    depth: Annotated[int, Range(2, 50)] = 7
    """Number of 3x3 convolutions."""
    preset: str | None = None
    """Of the refinement, as for refine."""
    labels: Literal["given", "pseudo", "balanced", "quotas"] = "given"
    """The class to refine each image towards, as for refine."""

    def __post_init__(self) -> None:
        check(self)


def network_of(options: DistillOptions, in_channels: int) -> dict[str, Any]:
    """Return the network's name and arguments."""
    return {
        "name": "residual", "in_channels": in_channels, "width": options.width,
        "depth": options.depth,
    }  # fmt: skip


def training_of(options: DistillOptions, precision: Any) -> TrainingConfig:
    """Return the training of the network."""
    steps = options.training_steps
    return TrainingConfig(
        num_steps=steps, batch_size=options.batch_size, learning_rate=options.learning_rate,
        warmup_steps=min(100, steps // 5), ema_decay=0.99, precision=precision,
        channels_last=True, flip=True, seed=options.training_seed, log_every=20,
        validate_every=max(1, steps // 5), save_every=max(1, min(100, steps // 5)),
    )  # fmt: skip
