"""The recipe of a judge."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish import __version__
from burnish.checkpoint import save_model
from burnish.config import Experiment
from burnish.networks import build
from burnish.recipes.parts import accuracy_of, batches_of, network_arguments, plain
from burnish.storage.datasets import Dataset
from burnish.training import train

__all__ = ["train_judge"]


def train_judge(
    experiment: Experiment, name: str, data: Dataset, held_out: Dataset, out: Path, device: str
) -> Path:
    """Train one judge, a classifier of real images; returns the path of its file.

    The checkpoint with the best accuracy on ``held_out`` is kept.
    """
    config = experiment.judges[name]
    torch.manual_seed(config.training.seed)
    arguments = network_arguments(config.network, data)
    model = build(arguments)
    batches = batches_of(data, config.training)

    def loss(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        del step
        logits = model(batch.images)
        accuracy = (logits.argmax(1) == batch.labels).float().mean().item()
        return nn.functional.cross_entropy(logits, batch.labels), {"accuracy": accuracy}

    def validate(model: nn.Module) -> dict[str, float]:
        return {"score": accuracy_of(model, held_out, device)}

    settings = plain(config) | {"data": data.source}
    run = out / f"judge-{name}"
    best = train(
        model, loss, batches, config.training, run,
        validate=validate, device=device, settings=settings,
    )  # fmt: skip
    card = {
        "kind": "judge",
        "name": name,
        "network": arguments,
        "image_shape": list(data.images_uint8.shape[1:]),
        "data": data.source,
        "data_sha256": data.sha256(),
        "validation": {"data": held_out.source, "accuracy": accuracy_of(best, held_out, device)},
        "training": plain(config.training),
        "burnish": __version__,
    }
    path = run / "model.safetensors"
    save_model(path, best, card)
    return path
