"""The two sides of an adaptation, generated and real images: loaded, checked and split."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.files import check_target
from burnish.guide.model import Guide
from burnish.jobs.sides import split_rows
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.studies.adapt_options import AdaptOptions
from burnish.studies.dose.drawn import check_two_sides

# Images of each side: fewer teach little, and a dose needs two halves of 100.
MIN_IMAGES, MIN_TUNING = 500, 200


def check_folder(out: Path, *sources: str) -> None:
    """Refuse a folder that holds something else, or that what is read lies in."""
    check_target(out / "guide.safetensors")
    # What a killed process left unfinished is hidden.
    seen = out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())
    if seen and not (out / "adapt.json").exists():
        raise InputError(f"{out} holds something else than an adaptation; give another --out")
    for source in sources:
        path = Path(os.path.realpath(split_rows(source)[0]))  # resolve() fails at loops of links
        if path.exists() and out.resolve() in (path, *path.parents):
            raise InputError(f"{source} lies in {out}, which is to be filled; give another --out")


def load_side(source: str, label: Callable[[Tensor], Tensor] | None) -> Dataset:
    """Load images by path, ``PATH[rows]`` or name; ``label`` gives those without labels some."""
    path, rows = split_rows(source)
    return load_dataset(path, rows, label=label)


def opinion(guide: Guide) -> Callable[[Tensor], Tensor]:
    """Return what gives images ``[B, C, H, W]`` the classes that a guide sees in them."""
    frozen, device = guide.frozen(), next(guide.parameters()).device

    @torch.no_grad()
    def label(images: Tensor) -> Tensor:
        return torch.cat([frozen(part.to(device)).argmax(1).cpu() for part in images.split(100)])

    return label


def check_sides(samples: str, generated: Dataset, real: str, given: Dataset) -> None:
    """Refuse sides that are too small, of different shapes, or partly the same images."""
    for name, data in ((samples, generated), (real, given)):
        if len(data) < MIN_IMAGES:
            raise InputError(
                f"{name}: {len(data)} images are too few to adapt a guide; give {MIN_IMAGES} at "
                "least, better some thousands"
            )
    check_two_sides(samples, generated.images_uint8, real, given.images_uint8)


def split(data: Dataset, options: AdaptOptions) -> tuple[Dataset, Dataset, Dataset]:
    """Return images to train on, to validate on and to find the dose with."""
    order = torch.randperm(len(data), generator=stream(options.seed, "adapt/split"))
    num_tuning = min(options.num_tuning, max(MIN_TUNING, len(data) // 5))
    end = num_tuning + min(500, len(data) // 10)
    return data[order[end:]], data[order[num_tuning:end]], data[order[:num_tuning]]
