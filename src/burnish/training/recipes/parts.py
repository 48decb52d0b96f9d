"""What recipes share: the real images, their batches, and the words of cards."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.storage.datasets import Dataset, load_dataset, parse_rows
from burnish.training.config import Experiment, TrainingConfig
from burnish.training.loop import Batches

__all__ = [
    "accuracy_of", "batches_of", "facts_of", "load_real", "network_arguments",
    "plain", "remade",
]  # fmt: skip


def load_real(experiment: Experiment, location: str = "") -> tuple[Dataset, Dataset]:
    """Return the training and the validation images of an experiment.

    Args:
        experiment: Names the data and the rows.
        location: Where the data are if not where the experiment says; cards keep its names.
    """
    data = experiment.data
    whole = load_dataset(location or data.source)
    parts = []
    for rows in (data.train, data.validation):
        part = parse_rows(rows, len(whole))
        source = f"{data.source}[{rows}]"
        parts.append(Dataset(whole.images_uint8[part], whole.labels[part], source))
    return parts[0], parts[1]


def network_arguments(network: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """Fill in what the data decide: channels, classes and, for our own networks, pixel moments.

    Raises:
        InputError: The network is for other channels, or for fewer classes.
    """
    channels = data.images_uint8.shape[1]
    if network.get("in_channels", channels) != channels:
        raise InputError(
            f"network: in_channels is {network['in_channels']}, but the images have {channels}"
        )
    num_classes = network.get("num_classes", data.num_classes)
    if not isinstance(num_classes, int) or num_classes < data.num_classes:
        raise InputError(
            f"network: num_classes is {num_classes!r}, but there are {data.num_classes}"
        )
    filled = {"in_channels": data.images_uint8.shape[1], "num_classes": data.num_classes}
    if network.get("name") != "library":
        filled |= {"mean": data.pixel_mean, "std": data.pixel_std}
    return {**network, **{k: v for k, v in filled.items() if k not in network}}


def facts_of(data: Dataset) -> dict[str, str]:
    """Return what runs and cards say of the images they were trained on."""
    return {"data": data.source, "data_sha256": data.sha256()}


def batches_of(data: Dataset, config: TrainingConfig) -> Batches:
    """Return the batches of a data set under a training's settings."""
    return Batches(data.images_uint8, data.labels, config.batch_size, config.seed, config.flip)


@contextmanager
def remade(path: Path, facts: Mapping[str, Any], given: bool = False) -> Iterator[bool]:
    """Ask whether a file of images must be made; the block makes it if so.

    What it follows from is kept beside it, in a file ending in ``.json``, once it is there.

    Args:
        path: The file.
        facts: What it follows from, as JSON values.
        given: Take a file that has none beside it for somebody's own, which stays.
    """
    note, text = path.with_suffix(".json"), json.dumps(facts, indent=2, sort_keys=True) + "\n"
    if path.exists():
        kept = note.read_text() == text if note.exists() else given
    else:
        kept = False
    yield not kept
    if not kept:
        with write_aside(note) as aside:
            aside.write_text(text)


@torch.no_grad()
def accuracy_of(model: nn.Module, data: Dataset, device: str, batch_size: int = 500) -> float:
    """Return the share of images whose largest logit is that of their label."""
    right = 0
    for start in range(0, len(data), batch_size):
        batch = data.samples(slice(start, start + batch_size)).to(device)
        right += int((model(batch.images).argmax(1) == batch.labels).sum())
    return right / len(data)


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration as strict JSON values: tuples become lists, infinity ``"inf"``."""

    def value(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: value(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [value(inner) for inner in item]
        return str(item) if isinstance(item, float) and not math.isfinite(item) else item

    return value(dataclasses.asdict(config))
