"""The recipe of a learned refiner: a network that makes the images that a guide's ascent makes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from burnish import __version__
from burnish.checkpoint import save_model
from burnish.guide.model import Guide
from burnish.networks.build import build
from burnish.refinement.learned import Learned, LearnedRefiner, guide_sha256
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples
from burnish.schema import plain
from burnish.storage.datasets import Dataset
from burnish.training.config import TrainingConfig
from burnish.training.fit import fit
from burnish.training.losses.consistency import Value
from burnish.training.recipes.task import Batches
from burnish.training.run import Stage


@dataclass(frozen=True)
class Pairs:
    """Generated images, and in the same order what the guide has made of them."""

    generated: Dataset
    refined: Dataset

    def __getitem__(self, rows: slice | Tensor) -> "Pairs":
        return Pairs(self.generated[rows], self.refined[rows])


class ImitationLoss:
    r"""Mean squared distance from the refined image.

    .. math:: E\; \| s + r(s) - x' \|^2

    with the start :math:`s` of the ascent, the image :math:`x'` where it ended, and the network
    :math:`s + r(s)`.

    Args:
        start: From images ``[B, C, H, W]`` to where they begin to climb.
    """

    def __init__(self, start: Callable[[Tensor], Tensor]) -> None:
        self.start = start

    def __call__(self, model: nn.Module, batch: tuple[Samples, Samples], step: int) -> Value:
        """Return the loss of a batch, and the share of the change that it leaves unexplained."""
        generated, refined = (part.images for part in batch)
        start = self.start(generated)
        error = (model(start) - refined).square().mean()
        change = (start - refined).square().mean().clamp(min=1e-12)
        return error, {"unexplained": (error / change).item()}


@torch.no_grad()
def explained(refiner: LearnedRefiner, pairs: Pairs, size: int = 100) -> float:
    r"""Return the share of the ascent that a learned refiner explains, at most 1.

    .. math:: 1 - \frac{\sum \| \hat x - x' \|^2}{\sum \| s - x' \|^2}

    over all pairs, with its image :math:`\hat x`, the guide's :math:`x'` and the start
    :math:`s`. What a filter does to the images before they climb is no part of it.
    """
    error = change = 0.0
    for first in range(0, len(pairs.generated), size):
        generated, refined = (
            side.samples(slice(first, first + size)).images.to(refiner.device)
            for side in (pairs.generated, pairs.refined)
        )
        start = refiner.start(generated)
        error += (refiner.passed(start) - refined).square().sum().item()
        change += (start - refined).square().sum().item()
    return 1 - error / change if change else 0.0


def train_refiner(
    network: Mapping[str, Any], config: TrainingConfig, guide: Guide, settings: RefineSettings,
    pairs: Pairs, held_out: Pairs, stage: Stage, *, facts: Mapping[str, Any], device: str = "cpu",
) -> Path:  # fmt: skip
    """Train a learned refiner; resume it if it was killed; return its file.

    Args:
        network: Name and arguments.
        config: How.
        guide: That refined the images.
        settings: That it refined them by.
        pairs: To learn from.
        held_out: To choose the checkpoint by, and to say what it explains.
        stage: The folder of the training; the refiner becomes its ``model``.
        facts: What the images are, for the card; the training follows from their hashes.
        device: Where to train.
    """
    torch.manual_seed(config.seed)
    precision = "float32" if config.precision == "float32" else "bfloat16"

    def refiner(trained: Any) -> LearnedRefiner:
        learned = Learned(str(stage.model), "", trained, settings)
        return LearnedRefiner(guide, learned, settings, precision=precision)

    def validate(trained: nn.Module) -> dict[str, float]:
        return {"score": explained(refiner(trained), held_out)}

    model, both = build(network), (pairs.generated, pairs.refined)
    # Of one seed, so that both sides come in one order, mirrored alike.
    batches = [Batches(side, config) for side in both]
    trained: dict[str, Any] = {
        "network": dict(network), "guide_sha256": guide_sha256(guide), "settings": plain(settings)
    }  # fmt: skip
    hashes = {"pairs_sha256": [side.sha256() for side in both]}
    best = fit(
        model, ImitationLoss(refiner(model).start),
        lambda step: tuple(batch(step) for batch in batches), config, stage,
        settings=trained | hashes | {"training": plain(config)}, validate=validate, device=device,
    )  # fmt: skip
    card = {
        "kind": "learned refiner", "name": f"{guide.card.get('name', 'guide')}-refiner",
        **trained, "guide": guide.card.get("name"), "classifies": False,
        "image_shape": list(pairs.generated.images_uint8.shape[1:]), **facts, **hashes,
        "num_images": len(pairs.generated), "num_held_out": len(held_out.generated),
        "explained": explained(refiner(best), held_out), "training": plain(config),
        "burnish": __version__,
    }  # fmt: skip
    save_model(stage.model, best, card)
    return stage.model
