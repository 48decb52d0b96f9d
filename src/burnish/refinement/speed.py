"""What is fastest on this machine: precision and compilation, chosen by a short measurement.

Neither changes what is computed, only how it is rounded: bfloat16 keeps 8 bits of each number
inside the guide, and ``torch.compile`` sums in another order. A measurement is kept per machine
and network in ``speed.json`` of the cache folder, and a job's plan pins what was chosen.
"""

import contextlib
import functools
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from burnish.ascent.loop import Gradient
from burnish.ascent.step import Objective, value_and_gradient
from burnish.errors import InputError
from burnish.files import cache_folder, write_json
from burnish.guide.model import Guide
from burnish.refinement.batching import MAX_WAITING

# Images per call of the guide, by type of device. Larger batches gain nothing: caches are full, or
# every multiprocessor is busy. Smaller ones cost; and the last images of a job fill one batch.
BATCH_SIZE = {"cpu": 32, "cuda": 512}
# bfloat16 must save so much of the time before it is taken.
MIN_GAIN = 0.1
# Compiling takes 5 to 60 s and gains up to a fifth; shorter jobs are over before it pays.
SHORTEST_JOB = 120.0


def batch_size_for(network: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Return how many images to refine at a time: :data:`BATCH_SIZE`, or what fits into memory.

    What the forward pass keeps for the backward pass is counted on two images and doubled, for
    gradients and the kernels' own needs; the images of the batches that wait are added. All that
    may take a third of the memory that is free now.

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
    waiting = 2 * MAX_WAITING * images[0].nbytes
    per_image = 2 * sum(kept.values()) // len(images) + waiting
    del logits
    cuda = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if cuda else psutil.virtual_memory().available
    most = min(BATCH_SIZE.get(device.type, 32), max(1, free // 3 // per_image))
    return 1 << (most.bit_length() - 1)


def choose_precision(guide: Guide, image_shape: tuple[int, ...], batch_size: int) -> str:
    """Return ``bfloat16`` if the guide's gradient is a tenth faster in it here, else ``float32``.

    The instruction alone proves nothing: some processors have it and are slower with it.
    """
    device = next(guide.parameters()).device
    if not _has_bfloat16(device):
        return "float32"
    key = _key("precision", guide, image_shape, batch_size, device)
    seconds = _read().get(key)
    if seconds is None:
        images = torch.rand(batch_size, *image_shape, generator=torch.Generator().manual_seed(0))
        inputs = images.to(device), torch.zeros(batch_size, dtype=torch.int64, device=device)
        calls = {
            precision: functools.partial(_gradient_of, guide.frozen(precision), *inputs)
            for precision in ("float32", "bfloat16")
        }
        seconds = _time_in_turns(calls, device)
        _keep(key, seconds)
    faster = seconds["bfloat16"] < (1 - MIN_GAIN) * seconds["float32"]
    return "bfloat16" if faster else "float32"


def pays_to_compile(
    objective: Objective, guide: Guide, images: Tensor, labels: Tensor, num_calls: float, mode: str
) -> bool:
    """Return whether compiling the gradient gets a job done sooner.

    A compiled gradient that points elsewhere than the plain one is never used.

    Args:
        objective: Of the frozen guide.
        guide: The frozen guide.
        images: ``[B, C, H, W]``, a full batch.
        labels: ``[B]``.
        num_calls: How often the gradient will be taken.
        mode: ``auto``, ``always`` or ``never``.
    """
    device = images.device
    if mode == "never" or (mode == "auto" and num_calls < 20):
        return False
    plain = functools.partial(value_and_gradient, objective, images, labels)
    key = _key("compile", guide, tuple(images.shape[1:]), len(images), device)
    known = _read().get(key)
    if mode == "auto":
        seconds = known["plain"] if known else _time_in_turns({"plain": plain}, device)["plain"]
        if seconds * num_calls < SHORTEST_JOB:
            return False
    if known is None:
        # In a thread, as jobs refine: some versions of torch cannot replay CUDA graphs there
        # (https://github.com/pytorch/pytorch/issues/123177), and the trial must see that.
        with ThreadPoolExecutor(1) as pool:
            known = pool.submit(_measure_compiled, objective, images, labels, plain).result()
        _keep(key, known)
    gain = known["plain"] - known["compiled"]
    return gain > 0 if mode == "always" else gain * num_calls > known["compiling"]


def _measure_compiled(
    objective: Objective, images: Tensor, labels: Tensor, plain: Callable[[], Any]
) -> dict[str, float]:
    gradient = compiled_gradient(images.device.type)
    compiled = functools.partial(gradient, objective, images, labels)
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the compiler's remarks about the machine
            found = compiled()[0]
    except Exception as error:  # a compiler may raise anything; the plain gradient is as right
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        warnings.warn(f"torch.compile failed, going on without it: {reason}", stacklevel=3)
        return {"plain": 1.0, "compiled": 1.0, "compiling": 0.0}
    compiling = time.perf_counter() - began
    cosine = nn.functional.cosine_similarity(found.flatten(1), plain()[0].flatten(1)).mean()
    with torch.no_grad():
        seconds = _time_in_turns({"plain": plain, "compiled": compiled}, images.device)
    if cosine < 0.9:
        seconds["compiled"] = seconds["plain"]
    return {**seconds, "compiling": compiling}


@functools.cache
def compiled_gradient(device_type: str) -> Gradient:
    """Return :func:`~burnish.ascent.step.value_and_gradient`, compiled into one graph."""
    from torch._dynamo import config

    cuda = device_type == "cuda"
    compiled = torch.compile(
        value_and_gradient, dynamic=False, mode="reduce-overhead" if cuda else None
    )

    def gradient(
        objective: Objective, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with config.patch(trace_autograd_ops=True):
            found = compiled(objective, images, labels)
        # A CUDA graph hands out the same memory at every call.
        return (found[0].clone(), found[1].clone(), found[2].clone()) if cuda else found

    return gradient


def _gradient_of(guide: Guide, images: Tensor, labels: Tensor) -> None:
    value_and_gradient(guide.objective("logit"), images, labels)


def _time_in_turns(
    calls: dict[str, Callable[[], Any]], device: torch.device, rounds: int = 3
) -> dict[str, float]:
    """Return the least seconds of each call, after one unmeasured round."""
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                best[name] = min(best[name], time.perf_counter() - began)
    return best


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    able = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def _key(
    what: str, guide: Guide, image_shape: tuple[int, ...], batch_size: int, device: torch.device
) -> str:
    """Return a hash of everything that a timing depends on: network, shapes, machine, software."""
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    else:
        able = getattr(torch.cpu, "get_capabilities", dict)()
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
        machine = f"{able.get('cpu_name', device.type)}, {torch.get_num_threads()}, {limit}"
    dtypes = sorted({str(parameter.dtype) for parameter in guide.parameters()})
    parts = (what, str(guide), dtypes, image_shape, batch_size, machine, torch.__version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _read() -> dict[str, dict[str, float]]:
    try:
        found = json.loads((cache_folder() / "speed.json").read_text())
        return {k: v for k, v in found.items() if isinstance(v, dict)}
    except (OSError, ValueError, AttributeError):
        return {}  # there is none yet, or it is damaged


def _keep(key: str, seconds: dict[str, float]) -> None:
    # A cache that cannot be written costs time, not results.
    with contextlib.suppress(OSError, InputError):
        write_json(cache_folder() / "speed.json", {**_read(), key: seconds})
