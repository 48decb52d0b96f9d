"""Who takes part in ``refine.py``: burnish in several ways, the peers, and the floor."""

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
import torchvision
from page import OWN
from peers import PEERS, Run, Task, plain_loop
from torch import Tensor, nn
from torch.func import grad

from burnish.ascent.balls import L2Ball
from burnish.ascent.loop import Gradient, Slots, ascend
from burnish.ascent.step import Step, value_and_gradient
from burnish.guide.model import Guide
from burnish.networks.normalize import Normalize
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.refinement.speed import choose_precision, compiled_gradient, pays_to_compile
from burnish.samples import Samples

SEED = 0
# Architecture@pixels: classes, and images at a time on the CPU and on CUDA.
NETWORKS = {
    "resnet18@32": (10, {"cpu": 64, "cuda": 512}),
    "resnet50@64": (1000, {"cpu": 64, "cuda": 512}),
    "wide_resnet50_2@64": (1000, {"cpu": 16, "cuda": 512}),
    "resnet50@256": (1000, {"cpu": 4, "cuda": 64}),
    "wide_resnet50_2@256": (1000, {"cpu": 4, "cuda": 64}),
}
FLOAT32 = "burnish, float32"
LEDGER = "burnish, as it chooses, with ledger"
AUTOCAST = "plain loop, autocast"
FLOORS = ("floor, eager", "floor, compiled")


@dataclass(frozen=True)
class Contender:
    """What takes part."""

    run: Run
    network: nn.Module
    """The module that its passes go through."""
    uncompiled: Run
    """The same passes where they can be counted."""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def task_of(name: str, device: torch.device, batch_size: int | None = None) -> Task:
    """Return a task on a network whose random weights, like the images, follow from the seed."""
    architecture, size = name.split("@")
    num_classes, batch_sizes = NETWORKS[name]
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        inner = getattr(torchvision.models, architecture)(num_classes=num_classes)
        if size == "32":  # the usual stem for small images
            inner.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            inner.maxpool = nn.Identity()
    network = nn.Sequential(Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), inner)
    shape = (batch_size or batch_sizes[device.type], 3, int(size), int(size))
    recalibrate_batch_norm(network, shape, generator)
    images = torch.rand(shape, generator=generator)
    labels = torch.randint(num_classes, shape[:1], generator=generator)
    return Task(network.eval().to(device), images.to(device), labels.to(device))


@torch.no_grad()
def recalibrate_batch_norm(
    network: nn.Module, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    """Give batch norms the statistics of random images, without which gradients mean little."""
    network.train()
    for _ in range(4):
        network(torch.rand(min(16, shape[0]), *shape[1:], generator=generator))


def refiner_of(task: Task, precision: str, compile: bool = False) -> Refiner:
    guide, size = Guide(task.network), len(task.images)
    settings = settings_for(guide, "bigroc", eps=task.eps, num_steps=task.num_steps)
    return Refiner(guide, settings, precision=precision, batch_size=size, compile=compile)


@lru_cache(maxsize=1)
def choice(task: Task) -> tuple[str, bool]:
    """Return the precision of a job without end, and whether it is compiled."""
    shape, size = tuple(task.images.shape[1:]), len(task.images)
    precision = choose_precision(Guide(task.network), shape, size)
    plain = refiner_of(task, precision)
    arguments = (plain.objective, plain.guide, task.images, task.labels, math.inf, "always")
    return precision, pays_to_compile(*arguments)


def bare(task: Task, precision: str, compile: bool = False) -> Contender:
    """The ascent alone: the peers' work."""
    refiner, step = refiner_of(task, precision), Step(L2Ball(task.eps), task.step_size)

    def run(gradient: Gradient) -> Tensor:
        slots, rows = Slots(task.images, len(task.images)), range(len(task.images))
        slots.enter(rows, task.images, task.labels, rows)
        for _ in ascend(refiner.objective, slots, step, task.num_steps, gradient=gradient):
            pass
        return slots.images

    gradient = compiled_gradient(task.device.type) if compile else value_and_gradient
    facts = {"precision": precision, "compiled": compile}
    runs = partial(run, gradient), partial(run, value_and_gradient)
    return Contender(runs[0], refiner.guide.network, runs[1], facts)


def with_ledger(task: Task, precision: str, compile: bool) -> Contender:
    """What a user calls; the moved images pass the guide once more, for the ledger."""
    samples = Samples(task.images, None, torch.arange(len(task.images), device=task.device))
    plain = refiner_of(task, precision)
    chosen = refiner_of(task, precision, compile) if compile else plain

    def call(refiner: Refiner) -> Tensor:
        (done,) = refiner([samples], task.labels)
        return done.samples.images

    facts = {"precision": precision, "compiled": compile}
    return Contender(partial(call, chosen), plain.guide.network, partial(call, plain), facts)


def peer(task: Task, prepare: Callable[[Task], Run], precision: str = "float32") -> Contender:
    # A copy, for some peers leave gradients or settings of theirs in the network.
    task = dataclasses.replace(task, network=copy.deepcopy(task.network))
    run = prepare(task)
    # ART calls the members of a Sequential itself, so it is the last of them that is watched.
    return Contender(run, task.network[-1], run, {"precision": precision, "compiled": False})


BUILDERS: dict[str, Callable[[Task], Contender]] = {
    FLOAT32: partial(bare, precision="float32"),
    "burnish, bfloat16": partial(bare, precision="bfloat16"),
    OWN: lambda task: bare(task, *choice(task)),
    LEDGER: lambda task: with_ledger(task, *choice(task)),
    **{name: partial(peer, prepare=prepare) for name, prepare in PEERS.items()},
    AUTOCAST: partial(peer, prepare=partial(plain_loop, autocast=True), precision="autocast"),
}


def floors(task: Task) -> dict[str, Run]:
    """Return the bare passes: as many as there are steps, each of the same images."""
    network = refiner_of(task, choice(task)[0]).guide.network
    weights = torch.randn_like(network(task.images), dtype=torch.float32)

    def gradient(images: Tensor) -> Tensor:
        return grad(lambda images: (network(images) * weights).sum())(images)

    def plain(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        return torch.autograd.grad((network(images) * weights).sum(), images)[0]

    def run(gradient: Callable[[Tensor], Tensor]) -> Tensor:
        found = task.images
        for _ in range(task.num_steps):
            found = gradient(task.images)
        return found

    mode = "reduce-overhead" if task.device.type == "cuda" else None
    compiled = torch.compile(gradient, dynamic=False, mode=mode)
    return {FLOORS[0]: partial(run, plain), FLOORS[1]: partial(run, compiled)}
