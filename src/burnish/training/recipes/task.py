"""What recipes share: an experiment with its real images and the folder of its run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish import __version__
from burnish.documents import read_text
from burnish.errors import InputError
from burnish.files import write_text
from burnish.samples import Samples
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset, parse_rows
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
        """The real images that networks are trained on."""
        return self._rows(self.experiment.data.train)

    @cached_property
    def held_out(self) -> Dataset:
        """The real images that checkpoints and settings are chosen on."""
        return self._rows(self.experiment.data.validation)

    @cached_property
    def _images(self) -> Dataset:
        return load_dataset(self.data or self.experiment.data.source)

    def _rows(self, rows: str) -> Dataset:
        part = parse_rows(rows, len(self._images))
        images, labels = self._images.images_uint8[part], self._images.labels[part]
        return Dataset(images, labels, f"{self.experiment.data.source}[{rows}]")

    @cached_property
    def trained_on(self) -> dict[str, str]:
        """What the cards of models say of the real images."""
        return {"data": self.real.source, "data_sha256": self.real.sha256()}

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


class Batches:
    """The batches of a training, ``step -> Samples``; the ids of samples are their rows.

    Their order is a function of (seed, epoch); ``offset`` is added to the seed. A tail of the data
    shorter than a batch is left out.
    """

    def __init__(self, data: Dataset, config: TrainingConfig, offset: int = 0) -> None:
        if len(data) < config.batch_size:
            raise InputError(f"{len(data)} images do not fill one batch of {config.batch_size}")
        self.data, self.batch_size = data, config.batch_size
        self.seed, self.flip = config.seed + offset, config.flip
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Samples:
        """Return the batch of a step, from 0 on."""
        epoch, place = divmod(step, len(self.data) // self.batch_size)
        if epoch != self._epoch:
            generator = stream(self.seed, f"order/{epoch}")
            self._epoch, self._order = epoch, torch.randperm(len(self.data), generator=generator)
        batch = self.data.samples(self._order[place * self.batch_size :][: self.batch_size])
        if not self.flip:
            return batch
        mirrored = torch.rand(len(batch), generator=stream(self.seed, f"flip/{step}")) < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1), batch.images.flip(3), batch.images)
        return batch.with_images(images)


def network_arguments(network: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Fill in what the data decide: channels, classes and, for our own networks, pixel moments."""
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
