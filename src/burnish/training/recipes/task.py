"""What recipes share: an experiment with its real images and the folder of its run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from burnish import __version__
from burnish.documents import read_text
from burnish.errors import InputError
from burnish.files import write_text
from burnish.storage.datasets import Dataset, load_dataset, pick_rows
from burnish.storage.disk_dataset import DiskDataset, open_dataset
from burnish.training.batches import Batches
from burnish.training.config import TrainingConfig
from burnish.training.experiment import Experiment
from burnish.training.fit import Loss, fit
from burnish.training.run import Run, Stage


@dataclass(frozen=True)
class Task:
    """What a recipe is called with; see :func:`burnish.training.train.train`.

    Cards name the data as the experiment does, wherever the images are.
    """

    experiment: Experiment
    run: Run
    data: str = ""
    only: str = ""
    device: str = "cpu"

    @cached_property
    def real(self) -> Dataset:
        """The real images that networks are trained on, in memory."""
        return self._in_memory(self.real_side)

    @cached_property
    def held_out(self) -> Dataset:
        """The real images that checkpoints and settings are chosen on, in memory."""
        return self._in_memory(self.held_out_side)

    @cached_property
    def real_side(self) -> Dataset | DiskDataset:
        """The real images to train on, in memory or on disk, as the experiment says."""
        return self._rows(self.experiment.data.train)

    @cached_property
    def held_out_side(self) -> Dataset | DiskDataset:
        """Likewise those that checkpoints and settings are chosen on."""
        return self._rows(self.experiment.data.validation)

    def open(self, source: str) -> Dataset | DiskDataset:
        """Return the images at a path as the experiment says of the real ones."""
        data = self.experiment.data
        return open_dataset(source, data.size) if data.on_disk else load_dataset(source)

    @cached_property
    def _images(self) -> Dataset | DiskDataset:
        return self.open(self.data or self.experiment.data.source)

    def _rows(self, rows: str) -> Dataset | DiskDataset:
        part = self._images[pick_rows(rows, len(self._images))]
        return replace(part, source=f"{self.experiment.data.source}[{rows}]")

    def _in_memory(self, data: Dataset | DiskDataset) -> Dataset:
        if isinstance(data, Dataset):
            return data
        raise InputError("data: on_disk is for burnish train joint; set it to false for the rest")

    @cached_property
    def trained_on(self) -> dict[str, str]:
        """What the cards of models say of the real images."""
        return {"data": self.real_side.source, "data_sha256": self.real_side.sha256()}

    def fit(
        self,
        model: nn.Module,
        loss: Loss,
        config: TrainingConfig,
        stage: Stage,
        settings: Mapping[str, Any],
        batches: Callable[[int], Any] | None = None,
        validate: Callable[[Any], dict[str, float]] | None = None,
    ) -> Any:
        """Call :func:`burnish.training.fit.fit`, on the real images unless batches are given."""
        return fit(
            model, loss, batches or Batches(self.real, config), config, stage,
            settings={**settings, **self.trained_on}, validate=validate, device=self.device,
        )  # fmt: skip

    def card(self, head: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
        """Return the card of a model that was trained on the real images."""
        return {**head, **self.trained_on, **rest, "burnish": __version__}


def network_arguments(network: Mapping[str, Any], data: Dataset | DiskDataset) -> dict[str, Any]:
    """Fill in what the data decide: channels, classes and, for our own networks, pixel moments."""
    channels = data.image_shape[0]
    if network.get("in_channels", channels) != channels:
        raise InputError(
            f"network: in_channels is {network['in_channels']}, but the images have {channels}"
        )
    num_classes = network.get("num_classes", data.num_classes)
    if not isinstance(num_classes, int) or num_classes < data.num_classes:
        raise InputError(
            f"network: num_classes is {num_classes!r}, but there are {data.num_classes}"
        )
    filled = {"in_channels": channels, "num_classes": data.num_classes}
    if network.get("name") != "pretrained":
        filled |= {"mean": data.pixel_mean, "std": data.pixel_std}
    return {**network, **{k: v for k, v in filled.items() if k not in network}}


def make_images(
    path: Path, made_from: Mapping[str, Any], make: Callable[[], Any], keep_given: bool = False
) -> Dataset:
    """Return the images in a file; make them first if they follow from something else.

    What they follow from is kept beside them, in a file of the same name ending in ``.json``.
    ``keep_given`` keeps a file without one, which a user has put there.
    """
    record = path.with_suffix(".json")
    text = json.dumps(made_from, indent=2, sort_keys=True) + "\n"
    valid = path.exists() and (read_text(record) == text if record.exists() else keep_given)
    if not valid:
        make()
        write_text(record, text)
    return load_dataset(str(path))
