"""Samples as a folder of images: flat, or with one sub-folder per class.

If the names of all class folders are numbers, these are the labels; otherwise the label is the
folder's place in sorted order, as in ``ImageFolder`` of torchvision. Images are ordered by file
name, then by folder name, so that numbered files are read as written, whatever their class.
"""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.image_file import different_size, inspect, read_pixels, write_png
from burnish.storage.sample_file import SampleFile

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Reader(SampleFile):
    """Samples of a folder of images; the sizes and modes of all are checked when it is opened.

    Images are gray if all of them are, RGB otherwise; transparency is dropped. Other files and
    hidden ones are ignored. ``classes`` holds the names of the class folders; empty if flat.
    """

    def __init__(self, path: Path, batch_size: int) -> None:
        self._files, self.classes = _find(path)
        shapes = [inspect(file, str(file)) for file in self._files]
        for file, shape in zip(self._files, shapes, strict=True):
            if shape[1:] != shapes[0][1:]:
                raise different_size(str(file), shape, shapes[0])
        numbered = all(re.fullmatch(r"\d{1,9}", name) for name in self.classes)
        label_of = {n: int(n) if numbered else place for place, n in enumerate(self.classes)}
        labels = [label_of[file.parent.name] for file in self._files] if self.classes else None
        super().__init__(
            path,
            batch_size,
            image_shape=max(shapes),  # RGB as soon as one image is
            num_images=len(self._files),
            labels=None if labels is None else torch.tensor(labels),
            names=[file.relative_to(path).as_posix() for file in self._files],
        )

    def _images(self, places: Sequence[int]) -> Tensor:
        pixels = torch.empty(len(places), *self.image_shape, dtype=torch.uint8)
        for row, place in enumerate(places):
            file = self._files[place]
            pixels[row] = read_pixels(file, str(file), self.image_shape)
        return from_uint8(pixels)


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: Sequence[str] | None
) -> None:
    """Write samples as PNG files, with labels into class folders ``00000``, ``00001``, ...

    Without ``names``, files are named by id if the ids ascend, so that the order of names is the
    order of writing, and by place otherwise. The suffix of given names becomes ``.png``. Classes
    without images get an empty folder, because other readers take a folder's place for its label.
    """
    given = None if names is None else _png_names(names)
    width = max(6, len(str(num_images - 1)))
    files: list[Path] = []
    ids: list[int] = []
    num_folders = 0
    target.mkdir()
    for batch in samples:
        labels = batch.labels.tolist() if given is None and batch.labels is not None else None
        if labels and max(labels) > 99_999:
            raise InputError(
                f"label {max(labels)}: a folder holds labels up to 99999; write an .npz instead"
            )
        while labels and num_folders <= max(labels):
            (target / f"{num_folders:05d}").mkdir()
            num_folders += 1
        for row, pixels in enumerate(to_uint8(batch.images)):
            folder = target / f"{labels[row]:05d}" if labels else target
            files.append(folder / (given[len(files)] if given else f"{len(files):0{width}d}.png"))
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            write_png(pixels, files[-1])
        ids += batch.ids.tolist()
    ascending = ids[0] >= 0 and all(a < b for a, b in pairwise(ids))
    if given is None and ascending and ids[-1] >= len(ids):
        # Ascending ids are never below their place, so backwards every new name is free.
        width = max(6, len(str(ids[-1])))
        for file, number in zip(reversed(files), reversed(ids), strict=True):
            file.rename(file.with_name(f"{number:0{width}d}.png"))


def _find(path: Path) -> tuple[list[Path], list[str]]:
    """Return the images of a folder in reading order, and the sorted names of its classes."""
    files, classes = _list(path)
    inside: list[Path] = []
    for name in classes:
        images, deeper = _list(path / name)
        if deeper:
            raise InputError(f"{path / name / deeper[0]}: too deep; images go in class folders")
        inside += images
    if files and inside:
        some = f"{files[0].name}, {inside[0].relative_to(path)}"
        raise InputError(f"{path}: images beside and inside sub-folders ({some}); keep one kind")
    if not files and not inside:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"{path}: no images ({kinds}) and no .parquet files in this folder")
    ordered = sorted(files or inside, key=lambda file: (file.name, file.parent.name))
    return ordered, [] if files else classes


def _list(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the images and the sorted names of the sub-folders; hidden ones are left out."""
    with os.scandir(folder) as entries:
        seen = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
    names = [name for name, is_folder in seen if not is_folder]
    images = [folder / name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    return images, [name for name, is_folder in seen if is_folder]


def _png_names(names: Sequence[str]) -> list[str]:
    """Return the names with the suffix ``.png``; each must be unique and stay in the folder."""
    changed: dict[str, None] = {}
    for path in (PurePosixPath(name).with_suffix(".png") for name in names):
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"the name '{path}' leads out of the folder; give relative names")
        if str(path) in changed:
            raise InputError(f"two images would be called '{path}'; give each its own name")
        changed[str(path)] = None
    return list(changed)
