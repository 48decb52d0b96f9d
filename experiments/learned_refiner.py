"""A network that learns refinement in one pass, beside the guide and beside simpler means.

    python experiments/learned_refiner.py CIFAKE GUIDE OUT results/cifake-learned-refiner.json

GUIDE is an adapted guide (``burnish adapt`` on generated rows 0-11999 and real rows 0-9999 of
CIFAKE). It refines generated rows 0-7999; a residual network of 3x3 convolutions learns to make
the refined image from the given one. All are compared on generated rows 12000-12999 against real
rows 10000-12499. CIFAKE is a folder with ``generated-00000-of-00001.parquet`` and
``real-00000-of-00001.parquet``. OUT keeps the network and the features of the real images.
"""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from burnish.files import path_sha256, provenance, write_json
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.metrics.features import INCEPTION, load_extractor
from burnish.metrics.moments import Array
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.studies.dose.scorer import Scorer, extract_all

SEED, PRECISION, BATCH_SIZE = 1, "bfloat16", 32
NUM_STEPS, LEARNING_RATE, WIDTH, DEPTH = 1500, 2e-3, 48, 7
SETTINGS = {
    "eps": 2.0, "objective": "logit", "precondition": "spectrum", "match_spectrum": True,
    "stop_quantile": 1.0,
}  # fmt: skip
EXTRACTORS = ("cifar10/plain", "cifar10/wide", "cifar10/views", INCEPTION)
# Inception, by far the slowest, scores the first ones only.
NUM_SCORED, NUM_BY_INCEPTION = 1000, 1000


class Residual(nn.Module):
    """A refined image in one pass: the image and what a few convolutions add to it."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *[WIDTH] * (DEPTH - 1), 3]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])
        for parameter in layers[-2].parameters():  # so that training begins at no change
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Return images ``[B, 3, H, W]``, not clamped."""
        with torch.autocast("cpu", torch.bfloat16):
            added = self.layers(images.contiguous(memory_format=torch.channels_last) - 0.5)
        return images + added.float()


def refine(guide: Guide, num_steps: int, data: Dataset) -> Tensor:
    """Return images refined by the guide, float."""
    refiner = Refiner(
        guide, settings_for(guide, "joint", **SETTINGS, num_steps=num_steps), precision=PRECISION
    )
    return torch.cat([part.samples.images for part in refiner(_batches(data), data.labels)])


def learn(images: Tensor, refined: Tensor) -> tuple[Residual, float]:
    """Return a network that has learned the change, and the seconds that took."""
    torch.manual_seed(SEED)
    network = Residual().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, NUM_STEPS)
    random, began = stream(SEED, "learned-refiner"), time.perf_counter()
    for step in range(NUM_STEPS):
        rows = torch.randint(len(images), (BATCH_SIZE,), generator=random)
        given, wanted = images[rows], refined[rows]
        if step % 2:
            given, wanted = given.flip(3), wanted.flip(3)
        loss = (network(given) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            unchanged = (given - wanted).square().mean()
            print(
                f"{step}: {loss / unchanged:.3f}, {time.perf_counter() - began:.0f} s", flush=True
            )
    return network.eval(), time.perf_counter() - began


@torch.no_grad()
def by_parts(function: Callable[[Tensor], Tensor], data: Dataset) -> Tensor:
    """Return what a function makes of images, in [0, 1]."""
    return torch.cat([function(part.images).clamp(0, 1) for part in _batches(data)])


@torch.no_grad()
def more_real_half(guide: Guide, data: Dataset) -> Tensor:
    """Return which half of the images the guide finds more real, ``[N / 2]``."""
    frozen = guide.frozen(PRECISION)
    parts = [
        frozen.realness(part.images, labels)
        for part, labels in zip(
            _batches(data, BATCH_SIZE), data.labels.split(BATCH_SIZE), strict=True
        )
    ]
    return torch.cat(parts).argsort(descending=True)[: len(data) // 2].sort().values


def _batches(data: Dataset, size: int = 100) -> Iterator[Samples]:
    return (data.samples(slice(first, first + size)) for first in range(0, len(data), size))


def kept_features(path: Path, data: Dataset, extractors: list[Any]) -> dict[str, Array]:
    """Return the features of images, by name of extractor; each is kept in a file."""
    found = {}
    for name, extractor in zip(EXTRACTORS, extractors, strict=True):
        kept = path.with_name(f"{path.name}-{name.replace('/', '-')}.npy")
        if not kept.exists():
            (features,) = extract_all(data.images_uint8.split(100), [extractor]).values()
            np.save(kept, features)
        found[extractor.name] = np.load(kept)
    return found


def timed(make: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Return what a function makes, and the lesser of the CPU seconds of two calls."""
    times = []
    for _ in range(2):
        began = time.process_time()
        made = make()
        times.append(time.process_time() - began)
    return made, min(times)  # pyright: ignore


def main(cifake: str, guide_path: str, out: str, results: str) -> None:
    """Train the network, unless OUT has it; compare; write the results row by row."""
    generated, real = (f"{cifake}/{side}-00000-of-00001.parquet" for side in ("generated", "real"))
    guide, path, trained = load_guide(guide_path), Path(results), Path(out) / "learned.pt"
    if not trained.exists():
        seen = load_dataset(generated, "0-7999")
        network, seconds = learn(from_uint8(seen.images_uint8), refine(guide, 5, seen))
        torch.save({"weights": network.state_dict(), "seconds": seconds}, trained)
    kept, network = torch.load(trained, weights_only=True), Residual().eval()
    network.load_state_dict(kept["weights"])
    drawn = load_dataset(generated, "12000-13999")
    given, matcher = drawn[:NUM_SCORED], guide.matcher()
    extractors = [load_extractor(name) for name in EXTRACTORS]
    counts = {one.name: NUM_BY_INCEPTION if name == INCEPTION else NUM_SCORED
              for name, one in zip(EXTRACTORS, extractors, strict=True)}  # fmt: skip
    as_drawn = kept_features(Path(out) / "drawn", drawn, extractors)
    reference = kept_features(
        Path(out) / "reference", load_dataset(real, "10000-12499"), extractors
    )
    scorers = {name: Scorer(features) for name, features in reference.items()}
    before = {name: scorers[name](features[: counts[name]]) for name, features in as_drawn.items()}
    means: dict[str, Callable[[], Tensor]] = {
        "learned": lambda: by_parts(network, given),
        "guide, 5 steps": lambda: refine(guide, 5, given),
        "guide, 1 step": lambda: refine(guide, 1, given),
        "filter alone": lambda: by_parts(matcher, given),
    }
    rows: dict[str, Any] = {"as they are": {"scores": {k: v.values for k, v in before.items()}}}
    best, seconds = timed(lambda: more_real_half(guide, drawn))
    scores = {name: scorers[name](features[best.numpy()[: counts[name]]]).values
              for name, features in as_drawn.items()}  # fmt: skip
    rows["more real half"] = {"seconds_per_1000": seconds, "scores": scores}
    images = {}
    facts: dict[str, Any] = {
        "command": f"python experiments/learned_refiner.py CIFAKE GUIDE OUT {path.name}",
        "guide_sha256": path_sha256(Path(guide_path)), "seed": SEED, "precision": PRECISION,
        "settings": plain(settings_for(guide, "joint", **SETTINGS, num_steps=5)),
        "learned": {
            "num_parameters": sum(one.numel() for one in network.parameters()),
            "num_steps": NUM_STEPS, "batch_size": BATCH_SIZE, "wall_seconds": kept["seconds"],
        },
        "samples": "generated rows 12000-12999, for rejection 12000-13999",
        "real": "real rows 10000-12499", "seconds": "CPU seconds of one thread",
        "num_images": counts,
    }  # fmt: skip
    for name, make in means.items():
        images[name], seconds = timed(make)
        rows[name] = {"seconds_per_1000": seconds, "scores": {}}
    start = from_uint8(given.images_uint8)
    unexplained = (images["learned"] - images["guide, 5 steps"]).square().sum()
    change = (start - images["guide, 5 steps"]).square().sum()
    facts["learned"]["share_of_change_explained"] = 1 - (unexplained / change).item()
    # The fast extractors first: what there is, is written after each row.
    for some in (extractors[:-1], extractors[-1:]):
        for name in means:
            seen = to_uint8(images[name])[: counts[some[0].name]]
            found = extract_all(seen.split(100), some)
            for key, features in found.items():
                rows[name]["scores"][key] = scorers[key](features).since(before[key])
            write_json(path, {**facts, "rows": rows, **provenance()})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
