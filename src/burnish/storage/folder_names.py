"""What the names of images and their folders say: labels, classes, ids; and names to write."""

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.dataset_json import Facts
from burnish.storage.sample_file import printable

_NAMED = re.compile(r"(\d{5,9})-(.+)")  # as class_folders writes them
_COUNTED = re.compile(r"(\d{5,})/(img)?(\d{5,})\.\w+")


def facts_of(names: Sequence[str], folders: Sequence[str]) -> Facts:
    """Return labels and classes as the class folders say them; none if there are no such.

    Args:
        names: Images, as ``folder/name`` or as ``name``.
        folders: All folders in sorted order; empty ones count as classes, too.
    """
    if not folders or not any("/" in name for name in names) or _is_edm(names):
        return Facts(None, None, None)
    classes: list[str] | None = list(folders)
    places = {folder: place for place, folder in enumerate(folders)}
    named = [_NAMED.fullmatch(folder) for folder in folders]
    if all(re.fullmatch(r"\d{1,9}", folder) for folder in folders):
        places, classes = {folder: int(folder) for folder in folders}, None
    elif all(match and int(match[1]) == place for place, match in enumerate(named)):
        classes = [match[2] for match in named if match]
    labels = torch.tensor([places.get(name.rpartition("/")[0], -1) for name in names])
    return Facts(None if labels.min() < 0 else labels, None, classes)


def ids_of(names: Sequence[str]) -> Tensor | None:
    """Return the numbers by which burnish and EDM name files, 6 digits or more, as ids."""
    stems = [PurePosixPath(name).stem for name in names]
    if not all(re.fullmatch(r"\d{6,18}", stem) for stem in stems):
        return None
    ids = torch.tensor([int(stem) for stem in stems])
    unique = len(ids.unique()) == len(ids)
    return ids if unique and not torch.equal(ids, torch.arange(len(ids))) else None


def png_names(names: Sequence[str], flat: bool = False) -> list[str]:
    """Return the names with the suffix ``.png``; each must be unique and stay in the folder.

    If they are to be flat, folders are cut off, or, where that makes two names equal, joined to
    the name with ``_``.
    """
    paths = [PurePosixPath(name) for name in names]
    changed = [str(_inside(path).with_suffix(".png")) for path in paths]
    if flat:
        cut = [name.rpartition("/")[2] for name in changed]
        changed = cut if len(set(cut)) == len(cut) else [n.replace("/", "_") for n in changed]
    seen: dict[str, str] = {}
    for name, given in zip(changed, names, strict=True):
        if name in seen:
            raise InputError(
                f"{printable(seen[name])} and {printable(given)} would both be written as "
                f"{printable(name)}; rename one, or write another format"
            )
        seen[name] = given
    return changed


def class_folders(classes: Sequence[str] | None) -> Callable[[int], str]:
    """Return the folder of each label.

    ``00003`` without names of classes. With them the names, if they sort as their labels do, so
    that other readers find the same labels; else ``00003-Dress``.
    """

    def folder(label: int) -> str:
        if label > 99_999:
            raise InputError(
                f"label {label}: a folder holds labels up to 99999; write an .npz instead"
            )
        if not classes:
            return f"{label:05d}"
        if label >= len(classes):
            raise InputError(f"label {label} has no name; there are {len(classes)} classes")
        return classes[label] if plain else f"{label:05d}-{_safe(classes[label])}"

    plain = bool(
        classes
        and list(classes) == sorted(set(classes))
        and all(name == _safe(name) for name in classes)
        and not any(name.isdecimal() or _NAMED.fullmatch(name) for name in classes)
    )
    return folder


def _safe(name: str) -> str:
    """Return a name of a class that can be one folder."""
    name = re.sub(r"[/\\\0]|^\.", "_", name) or "_"
    while len(name.encode("utf-8", "surrogateescape")) > 200:
        name = name[:-1]
    return name


def _inside(path: PurePosixPath) -> PurePosixPath:
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise InputError(
            f"the name '{printable(path)}' leads out of the folder; give relative names"
        )
    return path


def _is_edm(names: Sequence[str]) -> bool:
    """Return whether folders count images in thousands, as EDM, StyleGAN and FFHQ do.

    The folder is the number of the image, divided by 1000 (``00001/img00001234.png``) or rounded
    down to thousands (``001000/001234.png``). Folders of 5 digits with files of 6 or 7 are the
    classes of burnish.
    """
    for name in names:
        match = _COUNTED.fullmatch(name)
        if not match:
            return False
        folder, number = int(match[1]), int(match[3])
        if len(match[1]) == 5 and not match[2] and len(match[3]) in (6, 7):
            return False
        if folder not in (number // 1000, number - number % 1000):
            return False
    return True
