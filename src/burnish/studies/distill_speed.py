"""How long a distillation takes, and how much time its refiner saves."""

import time
from collections.abc import Callable
from typing import Any

import torch

from burnish.ascent.step import value_and_gradient
from burnish.guide.model import Guide
from burnish.networks.build import build
from burnish.refinement.learned import Learned, make_refiner
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples
from burnish.studies.distill_options import DistillOptions, network_of

BATCH_SIZE = 32


def expected_seconds(
    guide: Guide, some: Samples, num_images: int, settings: RefineSettings,
    options: DistillOptions, precision: str,
) -> float:  # fmt: skip
    """Return how long a distillation is expected to take: the guide's gradients, then training.

    Args:
        guide: On its device.
        some: Some of the images.
        num_images: That the guide refines.
        settings: That it refines them by.
        options: Of the training.
        precision: Inside guide and network.
    """
    device = next(guide.parameters()).device
    images = some.images[torch.arange(BATCH_SIZE) % len(some)].to(device)
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)
    objective = guide.frozen(precision).objective(settings.objective)
    network = build(network_of(options, images.shape[1])).to(device)

    def climb() -> None:
        value_and_gradient(objective, images, labels)[1].sum().item()

    def learn() -> None:
        with torch.autocast(device.type, torch.bfloat16, precision == "bfloat16"):
            network(images).square().mean().backward()

    num_gradients = num_images * (settings.num_steps + 1) / len(images)
    num_learned = options.training_steps * options.batch_size / len(images)
    return num_gradients * _least(climb) + num_learned * _least(learn)


def _least(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def time_both(guide: Guide, learned: Learned, some: Samples, precision: str) -> dict[str, float]:
    """Return the seconds per 1,000 images of the ascent and of the learned refiner, in turns.

    Args:
        guide: On its device.
        learned: What has learned from it.
        some: Images to time with.
        precision: Inside both.
    """
    both = {
        "guide": make_refiner(guide, learned.settings, precision=precision),
        "learned": make_refiner(guide, None, learned, precision=precision),
    }
    labels = some.labels if some.labels is not None else torch.zeros(len(some), dtype=torch.int64)
    best = dict.fromkeys(both, float("inf"))
    for _ in range(3):
        for name, refiner in both.items():
            began = time.perf_counter()
            for _ in refiner([some], labels):
                pass
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: 1000 * seconds / len(some) for name, seconds in best.items()}
