"""The recipe of feature extractors: classifiers, or networks that never see a label."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.networks.build import build
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import Dataset
from burnish.training.config import FeaturesConfig
from burnish.training.losses.contrastive import contrastive_loss, matched, random_views
from burnish.training.recipes.task import Task, network_arguments
from burnish.training.validation import BATCH_SIZE, batches


def train(task: Task) -> list[Path]:
    """Train the experiment's feature extractors, or the one that the task names.

    The checkpoint that is best on held-out images is kept: by accuracy, or, for a network that
    learns from views, by the share of them that it pairs. Such a network never reads a label.
    """
    described = task.experiment.features
    if not described:
        raise InputError(f"{task.experiment.name}: there is no section features: to train")
    return [_train(task, name) for name in ([task.only] if task.only else described)]


def _train(task: Task, name: str) -> Path:
    config, held_out = task.experiment.features[name], task.held_out
    stage = task.run.features(name)
    arguments, settings = network_arguments(config.network, task.real), plain(config)
    by_labels = config.task == "labels"
    if by_labels:
        goal = _Labels()
        del settings["task"], settings["views"]  # which have no effect on a classifier
    else:
        goal = _Views(config)
        arguments["num_classes"] = config.views.num_projected
    torch.manual_seed(config.training.seed)
    best = task.fit(
        build(arguments), goal, config.training, stage, settings,
        validate=lambda model: {"score": goal.measure(model, held_out, task.device)},
    )  # fmt: skip
    score = goal.measure(best, held_out, task.device)
    head = {
        "kind": "feature extractor", "name": name, "network": arguments, "classifies": by_labels,
        "image_shape": list(task.real.images_uint8.shape[1:]),
    }  # fmt: skip
    views = {} if by_labels else {"views": plain(config.views)}
    card = task.card(
        head, validation={"data": held_out.source, goal.measured: score},
        training=plain(config.training), **views,
    )  # fmt: skip
    save_model(stage.model, best, card)
    return stage.model


class _Labels:
    """Learn the class of an image."""

    measured = "accuracy"

    def __call__(self, model: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the cross-entropy of a batch."""
        logits = model(batch.images)
        accuracy = (logits.argmax(1) == batch.labels).float().mean().item()
        return nn.functional.cross_entropy(logits, batch.labels), {"accuracy": accuracy}

    @torch.no_grad()
    def measure(self, model: nn.Module, held_out: Dataset, device: str) -> float:
        """Return the share of images whose largest logit is that of their label."""
        parts = batches(held_out, device)
        right = sum(int((model(part.images).argmax(1) == part.labels).sum()) for part in parts)
        return right / len(held_out)


class _Views:
    """Learn which two views are of one image; the network's head is the projection.

    Features come before the projection, which is trained to forget what a view changes.
    """

    measured = "matched_views"

    def __init__(self, config: FeaturesConfig) -> None:
        self.config, self.mirror = config.views, config.training.flip

    def __call__(self, model: nn.Module, batch: Any, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the contrastive loss of a batch; its views follow from torch's global stream."""
        first, second = self._projections(model, batch.images)
        loss = contrastive_loss(first, second, self.config.temperature)
        return loss, {"matched_views": matched(first.detach(), second.detach())}

    @torch.no_grad()
    def measure(self, model: nn.Module, held_out: Dataset, device: str) -> float:
        """Return the share of images whose other view is the nearest in its batch.

        All batches are of one size, as chance depends on it; a shorter tail is left out.
        """
        draws, size = stream(0, "views"), min(BATCH_SIZE, len(held_out))
        whole = (part.images for part in batches(held_out, device) if len(part) == size)
        shares = [matched(*self._projections(model, images, draws)) for images in whole]
        return sum(shares) / len(shares)

    def _projections(
        self, model: nn.Module, images: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        views = [random_views(images, self.config, self.mirror, generator) for _ in range(2)]
        return model(torch.cat(views)).float().chunk(2)
