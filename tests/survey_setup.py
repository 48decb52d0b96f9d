"""What the tests of the survey share: two small files of images, and a study of them."""

from typing import Any

import numpy as np
import torch

from burnish.samples import Samples
from burnish.storage.formats import write_samples
from burnish.survey.make import make_study
from burnish.survey.options import SurveyOptions
from burnish.survey.study import load_study

SMALL: dict[str, Any] = {"raters": 4, "pairs_per_rater": 6, "catch": 2, "practice": 1}


def write_images(path, seed, count=30, channels=3, side=16, labels=True, ids=None):
    """Write images: smooth for an even seed, which makes shorter PNG, noisy for an odd one."""
    rng = np.random.default_rng(seed)
    images = rng.random((count, channels, side, side), np.float32)
    if seed % 2 == 0:
        images = np.broadcast_to(images[:, :, :1, :1], images.shape).copy()
    classes = torch.arange(count) % 3 if labels else None
    samples = Samples(
        torch.from_numpy(images), classes, torch.arange(count) if ids is None else ids
    )
    return write_samples(path, [samples], count)


def make_small(folder, systems=("baseline", "refined"), **options):
    """Make a study of ``systems`` in ``folder / "study"`` and read it."""
    files = {name: write_images(folder / f"{n}.npz", n) for n, name in enumerate(systems)}
    make_study(files, folder / "study", SurveyOptions(**{**SMALL, **options}))
    return load_study(folder / "study", images=True)
