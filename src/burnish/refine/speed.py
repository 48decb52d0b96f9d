"""What is fastest here: the precision by what the device can do, the rest by measuring it.

Nothing in this module changes what is computed, only how it is rounded: bfloat16 keeps 8 bits of
a number inside the guide, and torch.compile sums in another order.
"""

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.refine.batching import MOST_WAITING

__all__ = ["COMPILE", "batch_size_for", "fastest", "precision_for"]

COMPILE = ("auto", "always", "never")
CACHE = Path("~/.cache/burnish/speed.json")
# Compiling takes 5 to 60 s and gains up to a fifth; shorter jobs are over before it pays.
SHORTEST_JOB = 120.0
# Nor are steps so few worth the time of measuring one.
FEWEST_CALLS = 20
# More than this gains nothing: caches are full, or every multiprocessor is busy.
LARGEST_BATCH = {"cpu": 64, "cuda": 512}


def precision_for(device: torch.device) -> str:
    """Return ``bfloat16`` where the device multiplies it natively, else ``float32``."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
        native = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    return "bfloat16" if native else "float32"


def batch_size_for(network: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Return how many images may climb at a time, a power of two.

    What the forward pass keeps for the backward pass is counted on two images and doubled, for
    gradients and the kernels' own needs; to it come the images of the batches that wait. All that
    takes a third of the memory that is free now.

    Args:
        network: Frozen, on its device.
        image_shape: ``(C, H, W)``.
    """
    device = next(network.parameters()).device
    images = torch.zeros(2, *image_shape, device=device, requires_grad=True)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved.detach()  # a node that kept its own output would keep itself

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        logits = network(images)
    waiting = 2 * MOST_WAITING * images[0].nbytes
    per_image = 2 * sum(kept.values()) // len(images) + waiting
    del logits
    cuda = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if cuda else psutil.virtual_memory().available
    most = min(LARGEST_BATCH.get(device.type, 64), max(1, free // 3 // per_image))
    return 1 << (most.bit_length() - 1)


@torch.no_grad()  # as the ascent is; a compiled step takes the other mode for another case
def fastest(
    step: Callable[..., Any],
    traceable: Callable[..., Any],
    arguments: tuple[Any, ...],
    num_calls: float,
    what: str,
    mode: str,
) -> Callable[..., Any]:
    """Return the step or its compiled form, whichever gets a job done sooner.

    Measured once per machine and kept in ``~/.cache/burnish/speed.json``. A compiled step whose
    first output, the moved images, strays from the step's own is not used.

    Args:
        step: ``arguments -> (images a step further, ...)``.
        traceable: The same step in the form that is compiled.
        arguments: Of a typical call; images first.
        num_calls: How often the step will be called.
        what: What distinguishes the step from others: architecture, settings, precision.
        mode: ``auto``, ``always`` or ``never`` compile.
    """
    if mode == "never" or (mode == "auto" and num_calls < FEWEST_CALLS):
        return step
    images = arguments[0]
    cuda = images.device.type == "cuda"
    key = hashlib.sha256(
        repr((what, tuple(images.shape), _name(images.device), torch.__version__)).encode()
    ).hexdigest()[:16]
    known = _read().get(key)
    if mode == "auto":
        plain = known["plain_s"] if known else _clock(step, arguments, 1)
        if plain * num_calls < SHORTEST_JOB:
            return step
        if known and (plain - known["compiled_s"]) * num_calls < known["compiling_s"]:
            return step
    plain = _clock(step, arguments)
    compiled = torch.compile(traceable, dynamic=False, mode="reduce-overhead" if cuda else None)
    if cuda:
        compiled = _keeping(compiled)
    began = time.perf_counter()
    try:
        with _undisturbed():
            moved = compiled(*arguments)[0].clone()
    except Exception as error:  # whatever a compiler may raise; the plain step is as right
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        warnings.warn(f"torch.compile failed, going on without it: {reason}", stacklevel=2)
        return step
    compiling = time.perf_counter() - began
    agree = _agree(moved - images, step(*arguments)[0] - images)
    fused = _clock(compiled, arguments)
    record = {"plain_s": plain, "compiled_s": fused if agree else plain, "compiling_s": compiling}
    _write({**_read(), key: {**record, "what": what}})
    return compiled if agree and (mode == "always" or fused < plain) else step


def _keeping(step: Callable[..., Any]) -> Callable[..., Any]:
    """Copy what a step returns: a CUDA graph hands out the same memory on every call."""
    return lambda *arguments: tuple(output.clone() for output in step(*arguments))


def _clock(step: Callable[..., Any], arguments: tuple[Any, ...], repeats: int = 3) -> float:
    """Return the least of a few timings in seconds; where they are several, after one more."""
    device = arguments[0].device
    times = []
    for _ in range(repeats + (repeats > 1)):
        began = time.perf_counter()
        step(*arguments)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[-repeats:])


def _agree(movement: Tensor, other: Tensor) -> bool:
    """Say whether two movements of a batch point the same way: mean cosine above 0.9."""
    cosine = nn.functional.cosine_similarity(movement.flatten(1), other.flatten(1))
    still = (movement.flatten(1).norm(dim=1) == 0) & (other.flatten(1).norm(dim=1) == 0)
    return bool(torch.where(still, 1.0, cosine).mean() > 0.9)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    able = getattr(torch.cpu, "get_capabilities", dict)()
    return f"{able.get('cpu_name', device.type)}, {torch.get_num_threads()} threads"


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the compiler's remarks about the machine from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read() -> dict[str, Any]:
    try:
        found = json.loads(CACHE.expanduser().read_text())
        needed = {"plain_s", "compiled_s", "compiling_s"}
        return {key: record for key, record in found.items() if needed <= record.keys()}
    except (OSError, ValueError, AttributeError, RuntimeError):
        return {}  # none yet, or not ours; RuntimeError: nobody's home


def _write(records: dict[str, Any]) -> None:
    # A cache that cannot be kept costs time, not results.
    with contextlib.suppress(OSError, InputError, RuntimeError):
        with write_aside(CACHE.expanduser()) as aside:
            aside.write_text(json.dumps(records, indent=1))
