"""Train a model: a loop that yields after each step, and its caller that averages, logs and saves.

Everything random in step n is a function of (seed, n). A training that was killed at any instant
therefore goes on from its last saved state and ends with the very weights of one that was never
killed: give the same command again.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from burnish.errors import InputError
from burnish.progress import bar as bar_of
from burnish.seeds import stream
from burnish.training.config import TrainingConfig
from burnish.training.run import Stage

# (model, batch, step) -> (what is minimized, numbers to log)
Loss = Callable[[Any, Any, int], tuple[Tensor, dict[str, float]]]
MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
MAX_FAILURES = 20  # steps in a row whose loss is not finite


class Outcome(NamedTuple):
    """Steps done, the loss before the last, numbers to log, and whether weights moved."""

    done: int
    loss: float
    numbers: dict[str, float]
    finite: bool


def train_steps(
    model: nn.Module, loss: Loss, batches: Callable[[int], Any], optimizer: Any,
    accelerator: Accelerator, config: TrainingConfig, start: int = 0,
) -> Iterator[Outcome]:  # fmt: skip
    """Train a model step by step, and yield after each step; the caller does all the rest."""
    for step in range(start, config.num_steps):
        torch.manual_seed(stream(config.seed, f"step/{step}").initial_seed())
        batch, device = batches(step), accelerator.device
        paired = isinstance(batch, tuple)
        batch = tuple(part.to(device) for part in batch) if paired else batch.to(device)
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(config, step)
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
        yield Outcome(step + 1, value.item(), numbers, finite)


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
        model: Trained in place, on one device.
        loss: If it has ``state_dict`` and ``load_state_dict``, its state is saved and resumed too.
        batches: ``step -> batch``, samples or a tuple of samples.
        config: Length, optimizer, averaging, saving.
        stage: The folder of this training; one that is finished already gives its model at once.
        settings: Everything that the training follows from, as JSON values.
        validate: ``averaged model -> numbers``, of which ``score`` (higher is better) chooses the
            checkpoint.
        device: Where to train.
    """
    stage.claim(settings)
    # Accelerate keeps device and precision per process; a second training may have others.
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = MIXED_PRECISION[config.precision]
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    fitting = _Fitting(model, loss, config, accelerator)
    saved = stage.load_state(accelerator.device)
    if saved is not None:
        try:
            fitting.load_state_dict(saved)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise stage.damaged(error) from error
    start = fitting.step
    stage.cut_log(start)
    if fitting.is_stale():
        return fitting.best_model()
    steps = train_steps(
        fitting.model, loss, batches, fitting.optimizer, accelerator, config, start
    )
    bar = bar_of(steps, stage.folder.name, config.num_steps, initial=start, smoothing=0.05)
    began, failures = time.perf_counter(), 0
    for done, value, numbers, finite in bar:
        if finite:
            fitting.average.update_parameters(fitting.model)
        fitting.step = done
        failures = 0 if finite else failures + 1
        if failures == min(MAX_FAILURES, config.num_steps):
            raise InputError(
                f"{stage.folder}: the loss was not finite for {failures} steps, last at "
                f"{done - 1}; lower the learning rate or a weight, delete the folder, begin again"
            )
        at_end = done == config.num_steps
        if done % config.log_every == 0 or at_end:
            speed = (done - start) / (time.perf_counter() - began)
            numbers = {"loss": value, **numbers, "steps_per_second": speed}
            bar.set_postfix({k: f"{v:.3g}" for k, v in list(numbers.items())[:3]}, refresh=False)
            stage.write_log(done, numbers)
        if validate and (done % config.validate_every == 0 or at_end):
            found = validate(fitting.average.module.eval())
            stage.write_log(done, {f"validation/{k}": v for k, v in found.items()})
            fitting.compare(found["score"])
        at_end = at_end or fitting.is_stale()
        if done % config.save_every == 0 or at_end:
            stage.save_state(fitting.state_dict())
        if at_end:
            break
    return fitting.best_model()


class _Fitting:
    """Everything that a saved state holds."""

    def __init__(
        self, model: nn.Module, loss: Any, config: TrainingConfig, accelerator: Accelerator
    ) -> None:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
        )  # fmt: skip
        average = AveragedModel(model, multi_avg_fn=_averaging(config.ema_decay), use_buffers=True)
        self.average = average.to(accelerator.device)
        self.model: nn.Module
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.model.train()
        self.parts: dict[str, Any] = {
            "model": self.model, "ema": self.average, "optimizer": self.optimizer, "loss": loss,
            "scaler": accelerator.scaler,
        }  # fmt: skip
        self.config, self.step = config, 0
        self.best: dict[str, float] = {"score": -math.inf, "step": -1}
        self.best_state: dict[str, Tensor] | None = None

    def compare(self, score: float) -> None:
        """Keep the averaged weights if no validation had so high a score."""
        if score > self.best["score"]:
            self.best = {"score": score, "step": self.step}
            weights = self.average.module.state_dict()
            self.best_state = {name: value.detach().clone() for name, value in weights.items()}

    def is_stale(self) -> bool:
        """Return whether as many validations as the config's ``patience`` brought nothing."""
        waited = self.step - max(self.best["step"], 0)
        return 0 < self.config.patience * self.config.validate_every <= waited

    def best_model(self) -> nn.Module:
        """Return the averaged model, with the weights that were kept if any were."""
        if self.best_state is not None:
            self.average.module.load_state_dict(self.best_state)
        return self.average.module.eval()

    def state_dict(self) -> dict[str, Any]:
        parts = {
            name: part.state_dict() if hasattr(part, "state_dict") else {}
            for name, part in self.parts.items()
        }
        return {"step": self.step, **parts, "best": self.best, "best_state": self.best_state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; raises various errors if it is of something else."""
        step, best, weights = state["step"], state["best"], state["best_state"]
        if type(step) is not int or not 0 <= step <= self.config.num_steps:
            raise ValueError(f"step {step!r}")
        for name, part in self.parts.items():
            if name == "optimizer":
                # Its settings are the config's.
                groups = part.state_dict()["param_groups"]
                part.load_state_dict({"state": state[name]["state"], "param_groups": groups})
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(state[name])
        for parameter, moments in self.optimizer.state.items():
            if {moments[name].shape for name in ("exp_avg", "exp_avg_sq")} != {parameter.shape}:
                raise ValueError("moments of other weights")
            moments["step"] += 0.0  # is a number
        if weights is not None:
            self.average.module.load_state_dict(weights)
            self.average.load_state_dict(state["ema"])
        self.step, self.best_state = step, weights
        self.best = {"score": float(best["score"]), "step": int(best["step"])}


def _learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of a step: linear warmup times cosine or step decay."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.decay == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.num_steps)))
    else:
        decay = 0.1 ** sum(step >= milestone for milestone in config.milestones)
    return config.learning_rate * (warmup * decay)


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return the update average <- d average + (1 - d) weights; counters of batch norm are copied.

    In update n, d = min(decay, (1 + n) / (10 + n)): the random first weights must not linger.
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
