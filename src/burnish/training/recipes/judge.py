"""The recipe of a judge: a classifier, or a network that never sees a label."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from burnish import __version__
from burnish.checkpoint import save_model
from burnish.networks import build
from burnish.seeds import stream
from burnish.storage.datasets import Dataset
from burnish.training.config import Experiment, JudgeConfig
from burnish.training.loop import train
from burnish.training.losses.contrastive import contrastive_loss, matched, random_views
from burnish.training.recipes.parts import (
    accuracy_of,
    batches_of,
    facts_of,
    network_arguments,
    plain,
)

__all__ = ["train_judge"]


class Labels:
    """Learn the class of an image."""

    measured = "accuracy"

    def __call__(self, model: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the cross-entropy of a batch."""
        del step
        logits = model(batch.images)
        accuracy = (logits.argmax(1) == batch.labels).float().mean().item()
        return nn.functional.cross_entropy(logits, batch.labels), {"accuracy": accuracy}

    def measure(self, model: nn.Module, held_out: Dataset, device: str) -> float:
        """Return the share of images whose largest logit is that of their label."""
        return accuracy_of(model, held_out, device)


class Views:
    """Learn which two views are of one image; the judge's head is the projection.

    Features come before the projection, which is trained to forget what a view changes.
    """

    measured = "matched_views"

    def __init__(self, config: JudgeConfig) -> None:
        self.config, self.mirror = config.views, config.training.flip

    def __call__(self, model: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the contrastive loss of a batch; its views follow from torch's global stream."""
        del step
        first, second = self._projections(model, batch.images)
        loss = contrastive_loss(first, second, self.config.temperature)
        return loss, {"matched_views": matched(first.detach(), second.detach())}

    @torch.no_grad()
    def measure(
        self, model: nn.Module, held_out: Dataset, device: str, batch_size: int = 500
    ) -> float:
        """Return the share of images whose other view is the nearest of a batch's.

        All batches are of one size, as chance depends on it; a shorter tail is left out.
        """
        draws, size = stream(0, "views"), min(batch_size, len(held_out))
        shares = []
        for start in range(0, len(held_out) - size + 1, size):
            images = held_out.samples(slice(start, start + size)).images.to(device)
            shares.append(matched(*self._projections(model, images, draws)))
        return sum(shares) / len(shares)

    def _projections(
        self, model: nn.Module, images: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        views = [random_views(images, self.config, self.mirror, generator) for _ in range(2)]
        return model(torch.cat(views)).float().chunk(2)


def train_judge(
    experiment: Experiment, name: str, data: Dataset, held_out: Dataset, out: Path, device: str
) -> Path:
    """Train one judge on real images; returns the path of its file.

    The checkpoint that is best on ``held_out`` is kept: by accuracy, or, for a judge that learns
    from views, by the share of them that it pairs. Such a judge never reads a label.
    """
    config = experiment.judges[name]
    by_labels = config.task == "labels"
    head = {} if by_labels else {"num_classes": config.views.num_projected}
    torch.manual_seed(config.training.seed)
    arguments = {**network_arguments(config.network, data), **head}
    task = Labels() if by_labels else Views(config)
    settings = plain(config) | facts_of(data)
    if by_labels:
        del settings["task"], settings["views"]  # which are nothing to a judge of labels
    run = out / f"features-{name}"
    best = train(
        build(arguments), task, batches_of(data, config.training), config.training, run,
        validate=lambda model: {"score": task.measure(model, held_out, device)},
        device=device, settings=settings,
    )  # fmt: skip
    score = task.measure(best, held_out, device)
    card = {
        "kind": "judge",
        "name": name,
        "network": arguments,
        "classifies": by_labels,
        "image_shape": list(data.images_uint8.shape[1:]),
        **facts_of(data),
        "validation": {"data": held_out.source, task.measured: score},
        "training": plain(config.training),
        **({} if by_labels else {"views": plain(config.views)}),
        "burnish": __version__,
    }
    path = run / "model.safetensors"
    save_model(path, best, card)
    return path
