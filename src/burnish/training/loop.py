"""The training loop: draw a batch, take the loss, make one optimizer step.

Everything random in step n is a function of (seed, n), so a training that begins at step n makes
the same steps as one that has come there.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from burnish.seeds import stream
from burnish.training.config import TrainingConfig

__all__ = ["Loss", "Made", "learning_rate", "train_steps"]


class Loss(Protocol):
    """What a training minimizes: ``(model, batch, step) -> (scalar, numbers to log)``."""

    def __call__(  # noqa: D102
        self, model: nn.Module, batch: Any, step: int
    ) -> tuple[Tensor, dict[str, float]]: ...


@dataclass(frozen=True)
class Made:
    """One step that was made.

    Args:
        step: Steps made so far, from 1 on.
        loss: Its value before the step.
        numbers: What the loss has to log.
        finite: Whether loss and gradient were finite; if not, no weight has moved.
    """

    step: int
    loss: float
    numbers: dict[str, float]
    finite: bool


def train_steps(
    model: nn.Module,
    loss: Loss,
    batches: Callable[[int], Any],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    config: TrainingConfig,
    start: int = 0,
) -> Iterator[Made]:
    """Train a model in place; yield after each optimizer step.

    Args:
        model: Prepared by the accelerator, as the optimizer is.
        loss: Called as ``loss(model, batch, step)``.
        batches: ``step -> batch``: samples, or a tuple of samples.
        optimizer: Its learning rate is set in each step.
        accelerator: Device and precision.
        config: Length, learning rate, clipping, seed.
        start: Steps made already.
    """
    for step in range(start, config.num_steps):
        torch.manual_seed(stream(config.seed, f"step/{step}").initial_seed())
        batch = _to(batches(step), accelerator.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        buffers = [buffer.clone() for buffer in model.buffers()]
        value, numbers = loss(model, batch, step)
        optimizer.zero_grad()
        accelerator.backward(value)
        norm: Any = accelerator.clip_grad_norm_(model.parameters(), config.gradient_clip)
        finite = math.isfinite(value.item()) and math.isfinite(float(norm))
        if not finite:
            # Batch norm has already taken what was not finite into its running statistics.
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        if finite or accelerator.scaler is not None:
            # With a scaler this moves no weight if not finite, but lowers the scale of float16.
            optimizer.step()
        yield Made(step + 1, value.item(), numbers, finite)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of a step: linear warmup times cosine or step decay."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.decay == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.num_steps)))
    else:
        decay = 0.1 ** sum(step >= milestone for milestone in config.milestones)
    return config.learning_rate * (warmup * decay)


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, tuple):
        return tuple(part.to(device) for part in batch)
    return batch.to(device)
