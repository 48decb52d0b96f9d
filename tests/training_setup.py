"""Small data and short trainings that the tests of recipes share."""

from pathlib import Path

import torch
from torch.nn.functional import one_hot

from burnish.samples import Samples
from burnish.storage.formats import write_samples
from burnish.training.config import TrainingConfig
from burnish.training.experiment import DataConfig

SHORT = TrainingConfig(
    num_steps=2, batch_size=8, learning_rate=1e-3, warmup_steps=1, precision="float32"
)


def real_images(path: Path, count: int = 48, channels: int = 1, num_classes: int = 4) -> Path:
    """Write images of four classes, 8 x 8: a bright square in one of four corners, on noise."""
    generator = torch.Generator().manual_seed(channels)
    labels = torch.arange(count) % 4
    corners = one_hot(labels, 4).view(count, 1, 2, 2) * 0.6
    squares = corners.repeat_interleave(4, 2).repeat_interleave(4, 3)
    images = 0.3 * torch.rand(count, channels, 8, 8, generator=generator) + squares
    return write_samples(path, [Samples(images, labels % num_classes, torch.arange(count))], count)


def data_of(path: Path) -> DataConfig:
    """Return the config of such a file: 32 images to train on, the next 16 to validate on."""
    return DataConfig(str(path), "0-31", "32-47")
