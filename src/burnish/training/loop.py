"""The one training loop: loss -> step -> EMA -> log -> save.

Everything random in step n is a function of (seed, n), and the order of the data a function of
(seed, epoch). So a run that was killed at any instant goes on from its last saved state and ends
with the very weights of a run that was never killed: give the same command again.
"""

import dataclasses
import json
import math
import pickle
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.samples import Samples, from_uint8
from burnish.seeds import stream
from burnish.training.config import TrainingConfig

__all__ = ["Batches", "Loss", "train"]


class Loss(Protocol):
    """What a training minimises: ``(model, batch, step) -> (scalar, numbers to log)``."""

    def __call__(  # noqa: D102
        self, model: nn.Module, batch: Any, step: int
    ) -> tuple[Tensor, dict[str, float]]: ...


class Batches:
    """A set of images in memory, given out in an order that is a function of (seed, epoch).

    Args:
        images_uint8: ``[N, C, H, W]`` uint8.
        labels: ``[N]`` int64, or None.
        batch_size: Images per batch, at most N; a shorter tail is left out.
        seed: Of the order.
        flip: Mirror each image left to right with probability 1/2.
    """

    def __init__(
        self,
        images_uint8: Tensor,
        labels: Tensor | None,
        batch_size: int,
        seed: int,
        flip: bool = False,
    ) -> None:
        if len(images_uint8) < batch_size:
            raise InputError(f"{len(images_uint8)} images do not fill one batch of {batch_size}")
        self.images_uint8, self.labels = images_uint8, labels
        self.batch_size, self.seed, self.flip = batch_size, seed, flip
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Samples:
        """Return the batch of a step, from 0 on."""
        epoch, place = divmod(step, len(self.images_uint8) // self.batch_size)
        if epoch != self._epoch:
            generator = stream(self.seed, f"order/{epoch}")
            self._order = torch.randperm(len(self.images_uint8), generator=generator)
            self._epoch = epoch
        rows = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        images = from_uint8(self.images_uint8[rows])
        if self.flip:
            mirrored = torch.rand(len(rows), generator=stream(self.seed, f"flip/{step}")) < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return Samples(images, None if self.labels is None else self.labels[rows], rows)


def train(
    model: nn.Module,
    loss: Loss,
    batches: Callable[[int], Any],
    config: TrainingConfig,
    run: Path,
    *,
    validate: Callable[[Any], dict[str, float]] | None = None,
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Train a model and return its averaged weights, those of the best validation if there is one.

    Args:
        model: Trained in place.
        loss: Called as ``loss(model, batch, step)``; if it has ``state_dict`` and
            ``load_state_dict`` its state is saved and resumed too.
        batches: ``step -> batch``.
        config: Length, optimiser, averaging, saving.
        run: Folder of the run: ``config.json``, ``log.jsonl``, ``state.pt``.
        validate: ``averaged model -> numbers``, of which ``score`` (higher is better) chooses the
            checkpoint.
        device: Where to train.
        settings: The whole resolved configuration, kept in ``config.json``; ``config`` alone where
            none are given.

    Raises:
        InputError: The folder holds a run with other settings or is damaged, or the loss was not
            finite for 20 steps in a row, or in none of fewer.
    """
    run.mkdir(parents=True, exist_ok=True)
    _claim(run, dict(settings or dataclasses.asdict(config)))
    # Accelerate keeps device and precision per process; a second training may have others.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=config.mixed_precision)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.momentum, 0.999),
        weight_decay=config.weight_decay,
    )
    ema = AveragedModel(model, multi_avg_fn=_averaging(config.ema_decay), use_buffers=True).to(
        accelerator.device
    )
    prepared: nn.Module
    prepared, optimizer = accelerator.prepare(model, optimizer)
    prepared.train()

    start, best = 0, {"score": -math.inf, "step": -1}
    best_state: dict[str, Tensor] | None = None
    state_path = run / "state.pt"
    if state_path.exists():
        state = _load(state_path, accelerator.device)
        accelerator.unwrap_model(prepared).load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        if hasattr(loss, "load_state_dict"):
            loss.load_state_dict(state["loss"])  # pyright: ignore[reportAttributeAccessIssue]
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        start, best, best_state = state["step"], state["best"], state["best_state"]

    def save(step: int) -> None:
        # Given a path, torch would write its name, and so the process's, into the file.
        with write_aside(state_path) as aside, aside.open("wb") as file:
            torch.save(
                {
                    "step": step,
                    "model": accelerator.unwrap_model(prepared).state_dict(),
                    "ema": ema.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "loss": loss.state_dict() if hasattr(loss, "state_dict") else {},  # pyright: ignore[reportAttributeAccessIssue]
                    "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
                    "best": best,
                    "best_state": best_state,
                },
                file,
            )

    log = _Log(run / "log.jsonl", start)
    failures = 0
    bar = tqdm(
        range(start, config.num_steps), run.name, config.num_steps, initial=start, smoothing=0.05
    )
    began, begun_at = time.perf_counter(), start
    for step in bar:
        torch.manual_seed(stream(config.seed, f"step/{step}").initial_seed())
        batch = batches(step)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _learning_rate(config, step)
        buffers = [buffer.clone() for buffer in prepared.buffers()]
        value, numbers = loss(prepared, _to(batch, accelerator.device), step)
        optimizer.zero_grad()
        accelerator.backward(value)
        norm: Any = accelerator.clip_grad_norm_(prepared.parameters(), config.gradient_clip)
        if math.isfinite(value.item()) and math.isfinite(float(norm)):
            failures = 0
            optimizer.step()
            ema.update_parameters(accelerator.unwrap_model(prepared))
        else:
            failures += 1
            if failures == min(20, config.num_steps):
                raise InputError(
                    f"{run}: the loss was not finite for {failures} steps, last at {step}; lower "
                    "the learning rate or a weight, delete the folder and begin again"
                )
            # Batch norm has already taken what was not finite into its running statistics.
            for buffer, before in zip(prepared.buffers(), buffers, strict=True):
                buffer.copy_(before)
            if accelerator.scaler is not None:
                optimizer.step()  # moves no weight, but lowers the scale of float16 gradients

        done = step + 1
        if done % config.log_every == 0 or done == config.num_steps:
            speed = (done - begun_at) / (time.perf_counter() - began)
            numbers = {"loss": value.item(), **numbers, "steps_per_second": speed}
            bar.set_postfix({k: f"{v:.3g}" for k, v in list(numbers.items())[:3]}, refresh=False)
            log.write({"step": done, **numbers})
        if validate and (done % config.validate_every == 0 or done == config.num_steps):
            ema.module.eval()
            found = validate(ema.module)
            log.write({"step": done, **{f"validation/{k}": v for k, v in found.items()}})
            if found["score"] > best["score"]:
                best = {"score": found["score"], "step": done}
                best_state = {k: v.detach().clone() for k, v in ema.module.state_dict().items()}
        if done % config.save_every == 0 or done == config.num_steps:
            save(done)
    if best_state is not None:
        ema.module.load_state_dict(best_state)
    return ema.module.eval()


def _load(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        # Our own file, and still loaded without the means to run code.
        return torch.load(path, map_location=device, weights_only=True)
    except (EOFError, OSError, RuntimeError, struct.error, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is damaged; delete it to begin this training anew") from error


def _claim(run: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run; refuse a folder that holds another run's."""
    path, text = run / "config.json", json.dumps(settings, indent=2, sort_keys=True) + "\n"
    # A run that failed before its first saved state has nothing to protect.
    begun = (run / "state.pt").exists() and path.exists()
    try:
        before = _filled(json.loads(path.read_text())) if begun else {}
    except ValueError as error:
        raise InputError(f"{path} is damaged; delete {run} to begin anew") from error
    # Runs of before the hash was kept are taken at the word of their data's name.
    unknown_data = {k: v for k, v in settings.items() if k == "data_sha256"}
    if begun and unknown_data | before != json.loads(text):
        raise InputError(
            f"{run} holds a run with other settings or data; give another --out or delete it"
        )
    with write_aside(path) as aside:
        aside.write_text(text)


def _filled(settings: Any) -> Any:
    """Fill in what a run of before the field was there did by default."""
    if not isinstance(settings, dict):
        return settings
    filled = {key: _filled(value) for key, value in settings.items()}
    optimises = "learning_rate" in filled
    return {"momentum": TrainingConfig.momentum, **filled} if optimises else filled


def _learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the factor on the learning rate at a step."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.decay == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.num_steps)))
    passed = sum(step >= milestone for milestone in config.milestones)
    return warmup * 0.1**passed


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return the update ema <- d ema + (1 - d) model, d = min(decay, (1 + n) / (10 + n)).

    The ramp keeps the random first weights from lingering. Counters of batch norm are copied.
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


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, tuple):
        return tuple(part.to(device) for part in batch)
    return batch.to(device)


class _Log:
    """A JSONL file; on resuming, lines later than the saved step are dropped."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        with write_aside(path) as aside:
            aside.write_text("".join(f"{line}\n" for line in lines if self._step(line) <= start))

    @staticmethod
    def _step(line: str) -> float:
        """Return the step of a line; infinity for half a line, as a killed run may leave one."""
        try:
            return float(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            return math.inf

    def write(self, numbers: Mapping[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(dict(numbers)) + "\n")
