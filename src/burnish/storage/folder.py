"""Samples as a folder of images: flat, with one sub-folder per class, or as EDM lays them out.

If the names of all class folders are numbers, these are the labels. Otherwise the label is the
folder's place in sorted order, as in ``ImageFolder`` of torchvision. A folder of EDM has a
``dataset.json`` with the labels, or sub-folders that count in thousands and mean nothing. Images
are ordered by file name, then by folder name, so that numbered files are read as written,
whatever their class.
"""

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import torch

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.storage.dataset_json import MAX_BYTES, NAME, Facts, facts_text, read_facts
from burnish.storage.encoded import EncodedFile
from burnish.storage.folder_names import class_folders, facts_of, ids_of, png_names
from burnish.storage.image_file import different_size, encode_pngs, inspect
from burnish.storage.sample_file import IMAGE_SUFFIXES, printable


class Reader(EncodedFile):
    """Samples of a folder of images; the sizes and modes of all are checked when it is opened.

    Images are gray if all of them are, RGB otherwise; transparency is dropped. Other files and
    hidden ones are ignored.
    """

    def __init__(self, path: Path, batch_size: int) -> None:
        self.path = path
        names, facts = find_images(path)
        shape: tuple[int, int, int] | None = None
        for name in names:
            found = inspect(path / name, f"{path}/{printable(name)}")
            if shape and found[1:] != shape[1:]:
                raise different_size(f"{path}/{printable(name)}", found, shape)
            shape = max(shape or found, found)  # RGB as soon as one image is
        assert shape
        self._files = names
        super().__init__(
            path, batch_size, shape, len(names), facts.labels, facts.ids, names, facts.classes
        )

    def _encoded(self, places: Sequence[int]) -> Iterator[tuple[str, Path]]:
        for place in places:
            name = self._files[place]
            yield f"{self.path}/{printable(name)}", Path(f"{self.path}/{name}")


def find_images(path: Path) -> tuple[list[str], Facts]:
    """Return the names of a folder's images in reading order, and what is known of them."""
    marked = (path / NAME).is_file()
    names, folders = _list(path, "")
    inside: list[str] = []
    pending = list(folders)
    while pending:
        images, deeper = _list(path, folder := pending.pop())
        if deeper and not marked:
            too_deep = f"{path}/{printable(deeper[0])}"
            raise InputError(f"{too_deep}: too deep; images go in class folders")
        pending += deeper
        inside += [f"{folder}/{name}" for name in images]
    if names and inside and not marked:
        some = f"{printable(names[0])}, {printable(inside[0])}"
        raise InputError(f"{path}: images beside and inside sub-folders ({some}); keep one kind")
    names = sorted(names + inside, key=lambda name: (name.rpartition("/")[2], name))
    if not names:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"{path}: no images ({kinds}) and no .parquet files in this folder")
    if marked:
        if (path / NAME).stat().st_size > MAX_BYTES:
            raise InputError(f"{path / NAME} is larger than {MAX_BYTES} bytes")
        facts = read_facts(path, (path / NAME).read_bytes(), names)
    else:
        facts = facts_of(names, folders)
    return names, facts if facts.ids is not None else facts._replace(ids=ids_of(names))


def list_images(path: Path) -> list[str]:
    """Return the names of the images that lie in a folder itself, sorted.

    Raises:
        InputError: There is none.
    """
    images, _ = _list(path, "")
    if not images:
        raise InputError(f"{path}: no images ({', '.join(IMAGE_SUFFIXES)}) in this folder")
    return images


def _list(path: Path, folder: str) -> tuple[list[str], list[str]]:
    """Return the images' names and the sub-folders' paths, without hidden ones."""
    images, folders = [], []
    with os.scandir(path / folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(f"{folder}/{entry.name}" if folder else entry.name)
            elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                if not entry.is_file():
                    name = printable(entry.path)
                    raise InputError(f"{name} is a broken link or no regular file; remove it")
                images.append(entry.name)
    return images, folders


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: Sequence[str] | None,
    classes: Sequence[str] | None, flat: bool = False,
) -> None:  # fmt: skip
    """Write samples as PNG files, with labels into class folders ``00000``, ``00001``, ...

    Without ``names``, files are named by id if the ids ascend, so that the order of names is the
    order of writing, and by place otherwise. The suffix of given names becomes ``.png``. Classes
    without images get an empty folder, because other readers take a folder's place for its label.
    Labels that the folders do not say, as in a flat folder, go into a ``dataset.json``.
    """
    given = None if names is None else png_names(names, flat)
    by_class = class_folders(classes) if given is None and not flat else None
    width = max(6, len(str(num_images - 1)))
    written: list[str] = []
    labels: array[int] = array("q")
    ids: array[int] = array("q")
    folders: set[str] = set()
    target.mkdir()
    for batch in samples:
        own = batch.labels.tolist() if batch.labels is not None else None
        labels.extend(own or ())
        if own and by_class:
            for label in range(len(folders), max(own) + 1):
                folders.add(by_class(label))
                (target / by_class(label)).mkdir()
        for row, content in enumerate(encode_pngs(batch.images)):
            name = given[len(written)] if given else f"{len(written):0{width}d}.png"
            if own and by_class:
                name = f"{by_class(own[row])}/{name}"
            written.append(name)
            _write_image(target, name, content, folders)
        ids.extend(batch.ids.tolist())
    if given is None:
        _name_by_id(target, written, ids)
    found = facts_of(written, sorted(folders))
    told = torch.tensor(labels) if labels else None
    deep = any(name.count("/") > 1 for name in written)
    if deep or not _same(told, found.labels):
        with (target / NAME).open("w", encoding="utf-8") as file:
            for piece in facts_text(iter(written), labels or None, None, classes):
                file.write(piece)


def _write_image(target: Path, name: str, content: bytes, folders: set[str]) -> None:
    folder = name.rpartition("/")[0]
    try:
        if folder and folder not in folders:
            (target / folder).mkdir(parents=True, exist_ok=True)
            folders.add(folder)
        with open(f"{target}/{name}", "wb", buffering=0) as file:
            file.write(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{printable(name)} cannot be written ({reason})") from error


def _name_by_id(target: Path, written: list[str], ids: Sequence[int]) -> None:
    ascending = ids[0] >= 0 and all(ids[i] < ids[i + 1] for i in range(len(ids) - 1))
    if not ascending or ids[-1] < len(ids):
        return
    # Ascending ids are never below their place, so backwards every new name is free.
    width = max(6, len(str(ids[-1])))
    for place in range(len(ids) - 1, -1, -1):
        name = PurePosixPath(written[place]).with_name(f"{ids[place]:0{width}d}.png")
        os.rename(target / written[place], target / name)
        written[place] = str(name)


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
