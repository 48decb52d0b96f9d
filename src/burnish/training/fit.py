"""Fit a model: the loop with averaged weights, log, validation, saving and resuming around it.

A training that was killed at any instant goes on from its last saved state and ends with the very
weights of one that was never killed: give the same command again.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from burnish.errors import InputError
from burnish.training.config import TrainingConfig
from burnish.training.loop import Loss, train_steps
from burnish.training.run import Stage

__all__ = ["fit"]

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
# Steps in a row whose loss may be infinite or NaN.
MAX_FAILURES = 20


def fit(
    model: nn.Module,
    loss: Loss,
    batches: Callable[[int], Any],
    config: TrainingConfig,
    stage: Stage,
    *,
    settings: Mapping[str, Any],
    validate: Callable[[Any], dict[str, float]] | None = None,
    device: str = "cpu",
) -> nn.Module:
    """Train a model and return its averaged weights, those of the best validation if there is one.

    Args:
        model: Trained in place.
        loss: Called as ``loss(model, batch, step)``; if it has ``state_dict`` and
            ``load_state_dict``, its state is saved and resumed too.
        batches: ``step -> batch``.
        config: Length, optimizer, averaging, saving.
        stage: The folder of this training; one that is finished already gives its model at once.
        settings: Everything that the training follows from, as JSON values.
        validate: ``averaged model -> numbers``, of which ``score`` (higher is better) chooses the
            checkpoint.
        device: Where to train.

    Raises:
        InputError: The folder holds a training with other settings or is damaged, or the loss was
            not finite for 20 steps in a row, or in none of fewer.
    """
    stage.claim(settings)
    # Accelerate keeps device and precision per process; a second training may have others.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision=MIXED_PRECISION[config.precision]
    )
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    fitting = _Fitting(model, loss, config, accelerator)
    saved = stage.load_state(accelerator.device)
    if saved is not None:
        fitting.load_state_dict(saved)
    start = fitting.step
    stage.cut_log(start)
    steps = train_steps(
        fitting.prepared, loss, batches, fitting.optimizer, accelerator, config, start
    )
    bar = tqdm(steps, stage.folder.name, config.num_steps, initial=start, smoothing=0.05)
    began, failures = time.perf_counter(), 0
    for made in bar:
        failures = 0 if made.finite else failures + 1
        if made.finite:
            fitting.average.update_parameters(fitting.model)
        elif failures == min(MAX_FAILURES, config.num_steps):
            raise InputError(
                f"{stage.folder}: the loss was not finite for {failures} steps, last at "
                f"{made.step - 1}; lower the learning rate or a weight, delete the folder and "
                "begin again"
            )
        fitting.step = made.step
        at_end = made.step == config.num_steps
        if made.step % config.log_every == 0 or at_end:
            speed = (made.step - start) / (time.perf_counter() - began)
            numbers = {"loss": made.loss, **made.numbers, "steps_per_second": speed}
            bar.set_postfix({k: f"{v:.3g}" for k, v in list(numbers.items())[:3]}, refresh=False)
            stage.write_log(made.step, numbers)
        if validate and (made.step % config.validate_every == 0 or at_end):
            found = validate(fitting.average.module.eval())
            stage.write_log(made.step, {f"validation/{k}": v for k, v in found.items()})
            fitting.compare(found["score"])
        if made.step % config.save_every == 0 or at_end:
            stage.save_state(fitting.state_dict())
    return fitting.best_model()


@runtime_checkable
class _Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class _Fitting:
    """Everything that a saved state holds."""

    def __init__(
        self, model: nn.Module, loss: Loss, config: TrainingConfig, accelerator: Accelerator
    ) -> None:
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
        )
        self.average = AveragedModel(
            model, multi_avg_fn=_averaging(config.ema_decay), use_buffers=True
        ).to(accelerator.device)
        self.prepared: nn.Module
        self.prepared, self.optimizer = accelerator.prepare(model, optimizer)
        self.prepared.train()
        self.model: nn.Module = accelerator.unwrap_model(self.prepared)
        self.loss, self.scaler = loss, accelerator.scaler
        self.step = 0
        self.best: dict[str, float] = {"score": -math.inf, "step": -1}
        self.best_state: dict[str, Tensor] | None = None

    def compare(self, score: float) -> None:
        """Keep the averaged weights if no validation had so high a score."""
        if score > self.best["score"]:
            self.best = {"score": score, "step": self.step}
            weights = self.average.module.state_dict()
            self.best_state = {name: value.detach().clone() for name, value in weights.items()}

    def best_model(self) -> nn.Module:
        """Return the averaged model, with the weights that were kept if any were."""
        if self.best_state is not None:
            self.average.module.load_state_dict(self.best_state)
        return self.average.module.eval()

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss": self.loss.state_dict() if isinstance(self.loss, _Stateful) else {},
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "best": self.best,
            "best_state": self.best_state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if isinstance(self.loss, _Stateful):
            self.loss.load_state_dict(state["loss"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.best, self.best_state = state["step"], state["best"], state["best_state"]


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return the update average <- d average + (1 - d) weights.

    In update n, d = min(decay, (1 + n) / (10 + n)): the ramp keeps the random first weights from
    lingering. Counters of batch norm are copied.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old.dtype), weight)
            else:
                old.copy_(new)

    return update
