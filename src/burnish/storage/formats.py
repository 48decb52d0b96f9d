"""Open and write samples in any format.

Both directions hold one batch in memory and keep the order. To add a format, write a module with
one or two names and add a line to ``FORMATS``, and to ``WRITABLE`` if it has both:

* ``Reader(path, batch_size)``, a :class:`~burnish.storage.sample_file.SampleFile`
* ``write(target, samples, num_images, names, classes)``, which makes the file or folder ``target``

A format's module is imported when a path needs it: reading an ``.npz`` does not import pyarrow.
"""

import importlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.files import check_target, write_aside
from burnish.samples import Samples
from burnish.storage.kinds import FORMATS, WRITABLE, find_kind
from burnish.storage.own_labels import read_labels
from burnish.storage.parts import Joined, find_parts
from burnish.storage.remote import fetch, is_remote, sent
from burnish.storage.sample_file import SampleFile, checked, printable


def open_samples(
    path: str | Path, batch_size: int = 256, *, labels: int | str | Path | None = None,
    tile: int | None = None, padding: int = 2,
) -> SampleFile:  # fmt: skip
    """Open samples for reading in batches, in order, as often as needed.

    Args:
        path: A file in one of the formats; a pattern such as ``data/train-*.parquet`` or
            ``part-{000..012}.tar``; a folder of parquet files, of ``save_to_disk`` or of images;
            ``hub:NAME``; or any of these but the last on another machine, as ``s3://...``, which
            is copied here first.
        batch_size: Images per batch, 1 or more.
        labels: Labels of one's own, in place of those of the file: a class for all images, or an
            ``.npy``, ``.txt`` or ``.csv`` with one integer per image.
        tile: Side of the tiles, if the path is a grid of them, or a folder of grids.
        padding: Pixels around each tile, as ``make_grid`` of torchvision draws them.

    Raises:
        InputError: There is nothing at the path, or it cannot be read. Faults that only show in
            the pixels are raised while iterating.
    """
    if batch_size < 1:
        raise InputError(f"cannot read batches of {batch_size} images; give 1 or more")
    local, kept = Path(path), None
    if is_remote(path) and not local.exists():
        local, kept = fetch(path)
    file = _open(local, batch_size, tile, padding)
    file.keep(kept)
    if labels is not None:
        file.set_labels(read_labels(labels, len(file)))
    return file


def _open(path: Path, batch_size: int, tile: int | None, padding: int) -> SampleFile:
    if str(path).startswith("hub:") and not path.exists():
        from burnish.storage.hub_data import open_hub

        return open_hub(str(path), batch_size)
    files: list[SampleFile] = []
    for part in find_parts(path):
        kind, found = find_kind(part, tile is not None)
        module = importlib.import_module(FORMATS[kind])
        for one in find_parts(found):
            options = (tile, padding) if kind == "grid" else ()
            files.append(module.Reader(one, batch_size, *options))
    return files[0] if len(files) == 1 else Joined(path, batch_size, files)


def write_samples(
    path: str | Path,
    samples: Iterable[Samples],
    num_images: int,
    names: Sequence[str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    flat: bool = False,
) -> Path:
    """Write samples batch by batch; the file appears under its name once it is complete.

    Args:
        path: ``*.npz``, ``*.parquet``, ``*.tar`` (WebDataset), ``*.zip`` (EDM), ``*.npy`` (images
            alone), or a name without suffix for a folder of PNG. An existing file is replaced; a
            folder must be new or empty. With ``scheme://`` it is copied to another machine.
        samples: Batches of one image shape, all with labels or all without. Images are rounded to
            the nearest of 256 levels.
        num_images: Number of images that follow, 1 or more.
        names: Relative path of each image, kept by folders, parquet and tar; None names files by
            id.
        classes: What label 0, 1, ... is called, kept by folders, parquet and zip.
        flat: Write a folder without sub-folders; labels go into its ``dataset.json``.

    Returns:
        The path written.

    Raises:
        InputError: The path cannot be written, or the samples are not as announced.
    """
    check_output(path, flat=flat, names=names)
    if num_images < 1:
        raise InputError(
            f"{printable(path)}: {num_images} images to write; there must be at least one"
        )
    if names is not None and len(names) != num_images:
        raise InputError(f"{printable(path)}: {num_images} images but {len(names)} names")
    batches = checked(Path(path), samples, num_images)
    module: Any = importlib.import_module(FORMATS[Path(path).suffix.lower()])
    options = {"flat": True} if flat else {}
    with ExitStack() as stack:
        local = stack.enter_context(sent(path)) if is_remote(path) else Path(path)
        aside = stack.enter_context(write_aside(local))
        module.write(aside, batches, num_images, names, classes, **options)
    return Path(path)


def check_output(
    path: str | Path, *inputs: str | Path, force: bool = True, flat: bool = False,
    names: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """Refuse a path that cannot be written or would replace an input, before any work is done.

    Args:
        path: What :func:`write_samples` is to write.
        inputs: What is read.
        force: Whether an existing file may be replaced.
        flat: Whether a folder without sub-folders is wanted.
        names: Of the images, where they are known and the format may keep them.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        known = ", ".join(filter(None, WRITABLE))
        raise InputError(
            f"{printable(path)}: unknown suffix {path.suffix!r}; writable are {known} and folders "
            "of PNG (a name without suffix)"
        )
    if flat and path.suffix:
        raise InputError(
            f"{printable(path)}: only a folder can be flat; give a name without suffix"
        )
    _check_names(path, names or (), flat)
    if is_remote(path):
        return
    check_target(path, *inputs, force=force)
    if not path.suffix and path.is_file():
        raise InputError(f"{path} is a file; choose another name for the folder")
    if not path.suffix and path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path}: the folder is not empty; empty it or choose another name")


def _check_names(path: Path, names: Sequence[str], flat: bool) -> None:
    if not path.suffix:
        from burnish.storage.folder_names import png_names

        png_names(names, flat)
    if path.suffix.lower() == ".parquet":
        try:
            "".join(names).encode()
        except UnicodeEncodeError as error:
            said = "parquet holds names of UTF-8 only; rename the images"
            raise InputError(f"{printable(path)}: {said}") from error
