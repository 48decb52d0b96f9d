"""Train a model: a loop that yields after each step, and its caller that averages, logs and saves.

Everything random in step n is a function of (seed, n). A training that was killed at any instant
therefore goes on from its last saved state and ends with the very weights of one that was never
killed: give the same command again.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from burnish.errors import InputError
from burnish.progress import bar as bar_of
from burnish.seeds import stream
from burnish.training import ranks
from burnish.training.config import TrainingConfig
from burnish.training.fitting import Fitting, learning_rate
from burnish.training.lock import alone_in
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
    accelerator: Accelerator, config: TrainingConfig, start: int = 0, accumulate: int = 1,
) -> Iterator[Outcome]:  # fmt: skip
    """Train a model step by step, and yield after each step; the caller does all the rest.

    The batch of a process is taken in ``accumulate`` parts of equal size, one after the other; the
    gradient is the mean of theirs, over all processes.
    """
    for step in range(start, config.num_steps):
        _seed(config, step, 0)
        batch = _moved(batches(step), accelerator.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        buffers = [buffer.clone() for buffer in model.buffers()]
        optimizer.zero_grad()
        found: dict[str, list[float]] = {}
        for number, part in enumerate(_parts(batch, accumulate)):
            if number:
                _seed(config, step, number)
            last = number == accumulate - 1
            with nullcontext() if last else accelerator.no_sync(model):
                value, numbers = loss(model, part, step)
                accelerator.backward(value if accumulate == 1 else value / accumulate)
            for name, one in {"loss": value.item(), **numbers}.items():
                found.setdefault(name, []).append(one)
        norm: Any = accelerator.clip_grad_norm_(model.parameters(), config.gradient_clip)
        means = {name: sum(values) / len(values) for name, values in found.items()}
        means = ranks.mean(means, accelerator.device)
        finite = math.isfinite(means["loss"]) and math.isfinite(float(norm))
        if not finite:
            # Batch norm has already taken what was not finite into its running statistics.
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        if finite or accelerator.scaler is not None:
            # With a scaler this moves no weight if not finite, but lowers the scale of float16.
            optimizer.step()
        yield Outcome(step + 1, means.pop("loss"), means, finite)


def _seed(config: TrainingConfig, step: int, part: int) -> None:
    """Seed torch for a part of a step; parts, and those of other processes, draw other numbers."""
    place = f"/{ranks.index()}/{part}" if part or ranks.index() else ""
    torch.manual_seed(stream(config.seed, f"step/{step}{place}").initial_seed())


def _moved(batch: Any, device: torch.device) -> Any:
    return tuple(p.to(device) for p in batch) if isinstance(batch, tuple) else batch.to(device)


def _parts(batch: Any, count: int) -> Iterator[Any]:
    if count == 1:
        yield batch
        return
    paired = isinstance(batch, tuple)
    size = len(batch[0] if paired else batch) // count
    for place in range(count):
        rows = slice(place * size, (place + 1) * size)
        yield tuple(side[rows] for side in batch) if paired else batch[rows]


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
    accumulate: int = 1,
    shared_norms: bool = True,
) -> nn.Module:
    """Train a model and return its averaged weights, those of the best validation if there is one.

    Processes that torchrun or accelerate has launched train one model together. ``batches`` gives
    each its part, process 0 alone writes and validates, and all return the same.

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
        accumulate: Parts that each process's share of a batch is cut into, to save memory.
        shared_norms: Whether batch norms take the statistics of all processes.
    """
    if config.batch_size % (ranks.count() * accumulate):
        raise InputError(
            f"batch_size {config.batch_size} cannot be cut into equal parts for {ranks.count()} "
            f"processes times accumulate {accumulate}; make it a multiple"
        )
    if config.precision == "float16" and device == "cpu":
        raise InputError("a CPU cannot train in float16; set precision to bfloat16 or float32")
    with alone_in(stage.folder) if not ranks.index() else nullcontext():
        if not ranks.index():
            stage.claim(settings)
        # Accelerate keeps device and precision per process; a second training may have others.
        AcceleratorState._reset_state(reset_partial_state=True)
        precision = MIXED_PRECISION[config.precision]
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
        if config.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        fitting = Fitting(model, loss, config, accelerator, shared_norms)
        try:
            return _run(fitting, batches, stage, accelerator, validate, accumulate)
        finally:
            if ranks.count() > 1:
                accelerator.end_training()


def _run(
    fitting: Fitting, batches: Callable[[int], Any], stage: Stage, accelerator: Accelerator,
    validate: Callable[[Any], dict[str, float]] | None, accumulate: int,
) -> nn.Module:  # fmt: skip
    config, writes = fitting.config, not ranks.index()
    # To the CPU: on a GPU, AdamW would wait for the number of each weight's steps, in every step.
    saved = stage.load_state(torch.device("cpu"))
    if saved is not None:
        try:
            fitting.load_state_dict(saved)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise stage.damaged(error) from error
    start = fitting.step
    if ranks.told(start) != start:
        raise InputError(f"{stage.folder} is another one for other processes; put --out where "
                         "all machines see the same files")  # fmt: skip
    if writes:
        stage.cut_log(start)
    if fitting.is_stale():
        return fitting.best_model()
    steps = train_steps(
        fitting.model, fitting.loss, batches, fitting.optimizer, accelerator, config, start,
        accumulate,
    )  # fmt: skip
    bar = bar_of(steps, stage.folder.name, config.num_steps, initial=start, smoothing=0.05,
                 disable=not writes)  # fmt: skip
    began, failures = time.perf_counter(), 0
    for done, value, numbers, finite in bar:
        if finite:
            fitting.average.update_parameters(fitting.plain)
        fitting.step = done
        failures = 0 if finite else failures + 1
        if failures == min(MAX_FAILURES, config.num_steps):
            raise InputError(
                f"{stage.folder}: the loss was not finite for {failures} steps, last at "
                f"{done - 1}; lower the learning rate or a weight, delete the folder, begin again"
            )
        at_end = done == config.num_steps
        if writes and (done % config.log_every == 0 or at_end):
            speed = (done - start) / (time.perf_counter() - began)
            numbers = {"loss": value, **numbers, "steps_per_second": speed}
            bar.set_postfix({k: f"{v:.3g}" for k, v in list(numbers.items())[:3]}, refresh=False)
            stage.write_log(done, numbers)
        if validate and (done % config.validate_every == 0 or at_end):
            found = validate(fitting.average.module.eval()) if writes else {}
            found = ranks.told(found)
            if writes:
                stage.write_log(done, {f"validation/{k}": v for k, v in found.items()})
            fitting.compare(found["score"])
        at_end = at_end or fitting.is_stale()
        if writes and (done % config.save_every == 0 or at_end):
            stage.save_state(fitting.state_dict())
        if at_end:
            break
    return fitting.best_model()
