"""How fast refinement is: burnish, attack libraries and a plain loop at the same work.

    python benchmarks/refine.py --out results/speed-peers-cpu.json
    python benchmarks/refine.py --quick

The work is targeted L2 PGD, 7 steps of 1.5 eps / 7, towards a class, on networks with random
weights. All contenders take turns in rounds, in another order each round, so that whatever else
the machine does meets all of them. The floor is 7 forward passes and input gradients of the
fastest form of the network, and nothing else.
"""

import contextlib
import copy
import dataclasses
import os
import platform
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import tyro
from contenders import (
    AUTOCAST,
    BUILDERS,
    FLOAT32,
    FLOORS,
    NETWORKS,
    SEED,
    Contender,
    floors,
    refiner_of,
    task_of,
)  # fmt: skip
from page import OWN, headline, peers_section
from peers import PEERS, Run, Task, versions
from torch import Tensor, nn
from torch.nn.functional import conv2d, cosine_similarity
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from burnish.files import provenance, write_json
from burnish.networks.frozen import PRECISIONS

QUICK = (OWN, "torchattacks", "plain loop")
# Contenders in float32 that end further apart than this, in pixels of [0, 1], do other work.
TOLERANCE = 1e-3


def main(
    networks: tuple[str, ...] = tuple(NETWORKS),
    rounds: int = 5,
    batch_size: int | None = None,
    quick: bool = False,
    device: str = "auto",
    out: Path | None = None,
) -> None:
    """Measure, and print the table.

    Args:
        networks: Of those listed in this file.
        rounds: Turns of each contender.
        batch_size: Images at a time, instead of what this file says.
        quick: The smallest network and few contenders, in under a minute; no memory.
        device: auto, cpu or cuda.
        out: Where the results go, as JSON, for `page.py` to make a page of.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if quick:
        networks, rounds = ("resnet18@32",), 3
        batch_size = 16 if device == "cpu" else None
    results: dict[str, Any] = {}
    for results in measure(networks, rounds, batch_size, quick, torch.device(device)):
        # After every network: the large ones take long, and a run may be cut short.
        if out is not None:
            write_json(out, results)
    print("\n".join(peers_section(results)))
    for result in results["networks"]:
        print(headline(result))


def measure(
    networks: Iterable[str],
    rounds: int,
    batch_size: int | None,
    quick: bool,
    device: torch.device,
) -> Iterator[dict[str, Any]]:
    """Yield all that has been measured, after each network."""
    with tempfile.TemporaryDirectory() as folder:
        # Timings that burnish has kept of this machine have no part in this.
        os.environ["BURNISH_CACHE"] = folder
        peak = {name: peak_rate(device, PRECISIONS[name]) for name in ("float32", "bfloat16")}
        facts = {
            "work": {
                "eps": Task.eps,
                "num_steps": Task.num_steps,
                "objective": "ce",
                "seed": SEED,
            },
            "rounds": rounds,
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            "peak_flops_per_s": peak,
            "versions": versions(),
            **provenance(),
        }
        found: list[dict[str, Any]] = []
        for name in networks:
            names = QUICK if quick else tuple(BUILDERS)
            result = compare(name, names, rounds, batch_size, device, memory=not quick)
            found.append({**result, **shares_of_peak(result, peak)})
            yield {**facts, "networks": found}


def compare(
    name: str,
    contenders: tuple[str, ...],
    rounds: int,
    batch_size: int | None,
    device: torch.device,
    memory: bool,
) -> dict[str, Any]:
    """Return all that is measured on one network."""
    torch.compiler.reset()
    task = task_of(name, device, batch_size)
    progress = partial(tqdm, leave=False, dynamic_ncols=True)
    agreed = agreement(task, contenders)
    built = {c: BUILDERS[c](task) for c in progress(contenders, f"{name}: preparing")}
    ends = {c: first_run(built[c], task) for c in progress(contenders, f"{name}: first runs")}
    rows: dict[str, dict[str, Any]] = {
        c: {**built[c].facts, **passes, **distance(images, ends["plain loop"][0], task)}
        for c, (images, passes) in ends.items()
    }
    runs = {c: built[c].run for c in contenders} | floors(task)
    for c in FLOORS:
        runs[c]()
    seconds: dict[str, list[float]] = {c: [] for c in runs}
    with progress(total=rounds * len(runs), desc=f"{name}: rounds") as bar:
        for turn in range(rounds):
            for c in random.Random(turn).sample(list(runs), len(runs)):
                seconds[c].append(clock(runs[c], device))
                bar.update()
    for c in progress(contenders if memory else (), f"{name}: memory"):
        rows[c] |= apart(peak_memory, name, c, device.type, batch_size)
    return {
        "network": name,
        "batch_size": len(task.images),
        **flops(task),
        "max_difference_smooth": agreed,
        **summary(seconds),
        "contenders": {c: {**row, **timing(seconds[c], task)} for c, row in rows.items()},
        "floors": {c: timing(seconds[c], task) for c in FLOORS},
    }


def clock(run: Run, device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def timing(seconds: list[float], task: Task) -> dict[str, Any]:
    middle = statistics.median(seconds)
    return {"seconds": seconds, "median_s": middle, "images_per_s": len(task.images) / middle}


def first_run(contender: Contender, task: Task) -> tuple[Tensor, dict[str, float]]:
    """Return where images end, and how many passes each of them takes."""
    counts = {"forward_passes": 0, "backward_passes": 0}

    def backward(gradient: Tensor) -> None:
        counts["backward_passes"] += len(gradient)

    def forward(module: nn.Module, inputs: Any, logits: Tensor) -> None:
        counts["forward_passes"] += len(logits)
        if logits.requires_grad:
            logits.register_hook(backward)

    handle = contender.network.register_forward_hook(forward)
    images = contender.uncompiled()
    handle.remove()
    if contender.run is not contender.uncompiled:
        images = contender.run()
    return images, {name: count / len(task.images) for name, count in counts.items()}


def distance(images: Tensor, others: Tensor, task: Task) -> dict[str, float]:
    """Compare where images ended; cosine is of the ways there, its mean over images."""
    start, images, others = (x.detach().cpu() for x in (task.images, images, others))
    cosine = cosine_similarity((images - start).flatten(1), (others - start).flatten(1))
    return {
        "max_difference": (images - others).abs().max().item(),
        "mean_cosine": cosine.mean().item(),
    }


def agreement(task: Task, contenders: Iterable[str]) -> dict[str, float]:
    """Return how far from the plain loop the float32 contenders end, in pixels.

    Rounding sends a few ReLUs to the other side of 0 and bends an image's way, so they are
    smoothed here. Images keep off 0 and 1, for ART clamps before it projects, the others after.
    """
    smooth = copy.deepcopy(task.network)
    for module in list(smooth.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.SiLU())
    few = dataclasses.replace(
        task, network=smooth, images=0.25 + task.images[:4] / 2, labels=task.labels[:4]
    )
    exact = [FLOAT32, *(name for name in contenders if name in PEERS)]
    with in_full_precision():
        ends = {name: BUILDERS[name](few).run().detach().cpu() for name in exact}
    apart = {name: (end - ends["plain loop"]).abs().max().item() for name, end in ends.items()}
    for name, difference in apart.items():
        if difference > TOLERANCE:
            raise SystemExit(f"{name} ends {difference:.2g} away from the plain loop")
    return apart


@contextlib.contextmanager
def in_full_precision() -> Iterator[None]:
    """Keep CUDA from multiplying float32 in TF32, as it does in convolutions unless told."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def summary(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Return the ratios that count, each taken round by round."""

    def fastest(names: Iterable[str]) -> str:
        return min((n for n in names if n in seconds), key=lambda n: statistics.median(seconds[n]))

    rival, floor = fastest(PEERS), fastest(FLOORS)
    found: dict[str, Any] = {"fastest_peer": rival, "floor": floor}
    found["times_fastest_peer"] = {
        name: spread(seconds[rival], own) for name, own in seconds.items()
    }
    found["share_of_floor"] = spread(seconds[floor], seconds[OWN])
    if AUTOCAST in seconds:
        found["times_autocast"] = spread(seconds[AUTOCAST], seconds[OWN])
    return found


def spread(seconds: list[float], own: list[float]) -> dict[str, float]:
    ratios = [theirs / ours for theirs, ours in zip(seconds, own, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def flops(task: Task) -> dict[str, float]:
    """Count the operations of one image, a multiplication and an addition being two."""
    network = refiner_of(task, "float32").guide.network
    image = task.images[:1].clone().requires_grad_()
    with FlopCounterMode(display=False) as forward:
        logits = network(image)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(logits.sum(), image)
    one, other = forward.get_total_flops(), backward.get_total_flops()
    return {"flops_forward": one, "flops_refined": task.num_steps * (one + other)}


def shares_of_peak(result: dict[str, Any], peak: dict[str, float]) -> dict[str, Any]:
    """Relate rates to that of a large convolution in the precision that burnish chose."""
    own, floor = result["contenders"][OWN], result["floors"][result["floor"]]
    best = peak[own["precision"]] / result["flops_refined"]
    rows = {"burnish": own, "floor": floor}
    return {"share_of_peak": {name: row["images_per_s"] / best for name, row in rows.items()}}


@torch.no_grad()
def peak_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a large convolution, at best."""
    place = {"device": device, "dtype": dtype}
    batch_size = 64 if device.type == "cpu" else 512
    images = torch.randn(batch_size, 256, 32, 32, **place).to(memory_format=torch.channels_last)
    weights = torch.randn(256, 256, 3, 3, **place).to(memory_format=torch.channels_last)

    def run() -> Tensor:
        return conv2d(images, weights, padding=1)

    seconds = [clock(run, device) for _ in range(6)]
    return 2 * 9 * 256 * 256 * 32 * 32 * batch_size / min(seconds[1:])


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_memory(
    name: str, contender: str, device: str, batch_size: int | None
) -> dict[str, float]:
    """Return the peak memory of this process, having run a contender in it, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BURNISH_CACHE"] = folder
        task = task_of(name, torch.device(device), batch_size)
        BUILDERS[contender](task).run()
    if device == "cuda":
        return {"peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20}
    return {"peak_memory_mib": peak_resident() / 2**20}


def peak_resident() -> int:
    status = Path("/proc/self/status")
    # On Linux ru_maxrss is inherited from the parent, whose memory is not meant here.
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    able = getattr(torch.cpu, "get_capabilities", dict)()
    return f"{able.get('cpu_name', platform.machine())}, {os.cpu_count()} cores"


if __name__ == "__main__":
    tyro.cli(main)
