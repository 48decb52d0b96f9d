"""What recipes share: an experiment with its real images and the folder of its run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from burnish import __version__
from burnish.errors import InputError
from burnish.files import write_text
from burnish.storage.datasets import Dataset, load_dataset, parse_rows
from burnish.training.batches import Batches
from burnish.training.config import Experiment, TrainingConfig
from burnish.training.fit import Loss, fit
from burnish.training.run import Run, Stage

__all__ = ["Task", "batches_of", "make_images", "network_arguments"]


@dataclass(frozen=True)
class Task:
    """What a recipe is called with.

    Args:
        experiment: What to train.
        run: Where everything of this experiment goes.
        data: Where the real images are if not where the experiment says; cards keep its names.
        only: The one feature extractor to train; empty for all.
        device: Where to train.
    """

    experiment: Experiment
    run: Run
    data: str = ""
    only: str = ""
    device: str = "cpu"

    @cached_property
    def real(self) -> Dataset:
        """The real images that networks are trained on."""
        return self._rows(self.experiment.data.train)

    @cached_property
    def held_out(self) -> Dataset:
        """The real images that checkpoints and settings are chosen on."""
        return self._rows(self.experiment.data.validation)

    @cached_property
    def _all(self) -> Dataset:
        return load_dataset(self.data or self.experiment.data.source)

    def _rows(self, rows: str) -> Dataset:
        part = parse_rows(rows, len(self._all))
        source = f"{self.experiment.data.source}[{rows}]"
        return Dataset(self._all.images_uint8[part], self._all.labels[part], source)

    @cached_property
    def _trained_on(self) -> dict[str, str]:
        return {"data": self.real.source, "data_sha256": self.real.sha256()}

    def fit(
        self,
        model: nn.Module,
        loss: Loss,
        config: TrainingConfig,
        stage: Stage,
        settings: Mapping[str, Any],
        *,
        batches: Callable[[int], Any] | None = None,
        validate: Callable[[Any], dict[str, float]] | None = None,
    ) -> Any:
        """Call :func:`burnish.training.fit.fit`, on the real images unless batches are given."""
        return fit(
            model, loss, batches or batches_of(self.real, config), config, stage,
            settings={**settings, **self._trained_on}, validate=validate, device=self.device,
        )  # fmt: skip

    def card(self, head: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
        """Return the card of a model that was trained on the real images."""
        return {**head, **self._trained_on, **rest, "burnish": __version__}


def network_arguments(network: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
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
    filled = {"in_channels": channels, "num_classes": data.num_classes}
    if network.get("name") != "pretrained":
        filled |= {"mean": data.pixel_mean, "std": data.pixel_std}
    return {**network, **{k: v for k, v in filled.items() if k not in network}}


def batches_of(data: Dataset, config: TrainingConfig, offset: int = 0) -> Batches:
    """Return the batches of a data set under a training's settings, ``offset`` added to its seed."""
    return Batches(data, config.batch_size, config.seed + offset, config.flip)


def make_images(
    path: Path, made_from: Mapping[str, Any], make: Callable[[], Any], keep_given: bool = False
) -> Dataset:
    """Return the images in a file; make them first if they follow from something else.

    What they follow from is kept beside them, in a file of the same name ending in ``.json``.

    Args:
        path: The file.
        made_from: Hashes and settings, as JSON values.
        make: Writes the file.
        keep_given: Keep a file without a JSON file beside it, which a user has put there.
    """
    record = path.with_suffix(".json")
    text = json.dumps(made_from, indent=2, sort_keys=True) + "\n"
    valid = path.exists() and (record.read_text() == text if record.exists() else keep_given)
    if not valid:
        make()
        write_text(record, text)
    return load_dataset(str(path))
