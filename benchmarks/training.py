"""Images per second of the joint model's training step, on a frozen copy and by a plain loop.

    python benchmarks/training.py --out results/speed-training.json

The same step three ways, interleaved: attacks on a frozen copy (what ``burnish train joint``
does); attacks on the live network under bfloat16 autocast, weights held still; the same in
float32, as the released code has it. Data are random: the arithmetic does not depend on them,
as no attack is stopped early and none grows.
"""

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from tqdm import tqdm

from burnish.files import provenance, write_json
from burnish.guide.model import Guide
from burnish.networks.build import build
from burnish.samples import Samples
from burnish.training.config import AttackConfig, GrowthConfig, JointConfig, TrainingConfig
from burnish.training.losses.joint import JointLoss

NETWORKS = {
    "resnet8-w32@28 gray": ({"name": "resnet", "width": 32, "num_blocks": 1}, (1, 28, 28)),
    "resnet20-w64@32": ({"name": "resnet", "width": 64, "num_blocks": 3}, (3, 32, 32)),
}


class Live:
    """The live network in the place of a frozen copy: attacks see it in eval mode, held still."""

    def __init__(self, guide: Guide) -> None:
        self.guide = guide

    def refresh(self, guide: Guide) -> None:
        """Hold the weights still; there is nothing to copy."""
        guide.eval().requires_grad_(False)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.guide(images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.guide, name)


class PlainLoss(JointLoss):
    """Attacks on the live network itself, in eval mode."""

    def __call__(self, model: Any, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of a batch."""
        self._frozen: Any = Live(model)
        return super().__call__(model, batch, step)


class Contender:
    """One way to make the step, with a network and an optimizer of its own."""

    def __init__(
        self, loss: JointLoss, network: dict[str, Any], shape: tuple[int, ...], mixed: bool,
        device: str,
    ) -> None:  # fmt: skip
        torch.manual_seed(0)
        self.loss, self.mixed = loss, mixed
        built = build({**network, "in_channels": shape[0], "num_classes": 10})
        self.guide = Guide(built).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optimizer = torch.optim.AdamW(self.guide.parameters())

    def step(self, real: Samples, generated: Samples) -> None:
        """Attack, then take one step of the optimizer."""
        with torch.autocast(real.images.device.type, torch.bfloat16, enabled=self.mixed):
            # The plain loop must give the weights their gradients back before the loss.
            forward = self.guide.forward
            self.guide.forward = lambda images: self._live(forward, images)
            value, _ = self.loss(self.guide, (real, generated), 0)
            self.guide.forward = forward
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()

    def _live(self, forward: Any, images: torch.Tensor) -> torch.Tensor:
        if self.guide.training:
            self.guide.requires_grad_(True)
        return forward(images)


def main(
    out: Path | None = None, batch_size: int = 64, generated_steps: int = 5, rounds: int = 7,
    device: str = "auto",
) -> None:  # fmt: skip
    """Time all networks: 2 steps of attack on real images, ``generated_steps`` on the others."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    real_attack = AttackConfig(eps=0.5, step_size=0.25, num_steps=2)
    generated_attack = AttackConfig(
        eps=float("inf"), step_size=0.1, num_steps=generated_steps, random_start=False
    )
    mixed = JointConfig(
        real_attack=real_attack, generated_attack=generated_attack, early_stop=False,
        growth=GrowthConfig(by="never"), training=TrainingConfig(precision="bfloat16"),
    )  # fmt: skip
    plain = replace(mixed, training=TrainingConfig(precision="float32"))
    results = []
    for name, (network, shape) in NETWORKS.items():
        images = torch.rand(2, batch_size, *shape, device=device)
        ids = torch.arange(batch_size, device=device)
        labels = ids % 10
        real, generated = (Samples(part, labels, ids) for part in images)
        contenders = {
            "frozen copy, bfloat16": Contender(JointLoss(mixed), network, shape, True, device),
            "plain loop, autocast": Contender(PlainLoss(plain), network, shape, True, device),
            "plain loop, float32": Contender(PlainLoss(plain), network, shape, False, device),
        }
        seconds: dict[str, list[float]] = {key: [] for key in contenders}
        for turn in tqdm(range(rounds + 1), name):
            for key, contender in contenders.items():
                began = time.perf_counter()
                contender.step(real, generated)
                if device != "cpu":
                    torch.cuda.synchronize()
                if turn:  # the first one warms up
                    seconds[key].append(time.perf_counter() - began)
        ours = seconds["frozen copy, bfloat16"]
        for key, times in seconds.items():
            ratios = [theirs / mine for theirs, mine in zip(times, ours, strict=True)]
            row = {
                "network": name,
                "contender": key,
                "images_per_second": 2 * batch_size / statistics.median(times),
                "times_slower": statistics.median(ratios),
                "times_slower_range": [min(ratios), max(ratios)],
            }
            results.append(row)
            print(f"{name:22}{key:24}{row['images_per_second']:8.0f} images/s", end="")
            print(f"{row['times_slower']:8.2f}x as long")
    facts = {"batch_size": batch_size, "generated_steps": generated_steps, "rounds": rounds}
    facts |= {"device": "cpu" if device == "cpu" else torch.cuda.get_device_name(device)}
    if out:
        write_json(
            out, {"results": results, **facts, "threads": torch.get_num_threads(), **provenance()}
        )


if __name__ == "__main__":
    tyro.cli(main)
