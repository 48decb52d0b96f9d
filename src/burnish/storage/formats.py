"""Open and write samples in any format.

Both directions hold one batch in memory and keep the order. To add a format, write a module with
two names and add a line to ``FORMATS``:

* ``Reader(path, batch_size)``, a :class:`~burnish.storage.sample_file.SampleFile`
* ``write(target, samples, num_images, names)``, which makes the file or folder ``target``

A format's module is imported when a path needs it: reading an ``.npz`` does not import pyarrow.
"""

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.files import check_target, write_aside
from burnish.samples import Samples
from burnish.storage.sample_file import SampleFile, checked

# By the suffix of the path; a path without one is a folder of images.
FORMATS = {
    ".npz": "burnish.storage.npz",
    ".parquet": "burnish.storage.parquet",
    "": "burnish.storage.folder",
}


def open_samples(path: str | Path, batch_size: int = 256) -> SampleFile:
    """Open samples for reading in batches, in order, as often as needed.

    Args:
        path: An ``.npz``, a ``.parquet``, a pattern such as ``data/train-*.parquet``, or a folder:
            of ``.parquet`` files if it holds any, otherwise of images.
        batch_size: Images per batch, 1 or more.

    Raises:
        InputError: There is nothing at the path, or it cannot be read. Faults that only show in
            the pixels are raised while iterating.
    """
    path = Path(path)
    if batch_size < 1:
        raise InputError(f"cannot read batches of {batch_size} images; give 1 or more")
    suffix = path.suffix.lower()
    if path.is_dir():
        suffix = ".parquet" if any(path.glob("[!.]*.parquet")) else ""
    elif suffix != ".parquet" and not path.exists():  # parquet takes patterns, too
        raise InputError(f"{path}: no such file or folder; check the path")
    elif not suffix or suffix not in FORMATS:
        raise _unknown_suffix(path, "readable", "folders of images")
    return _module(suffix).Reader(path, batch_size)


def write_samples(
    path: str | Path,
    samples: Iterable[Samples],
    num_images: int,
    names: Sequence[str] | None = None,
) -> Path:
    """Write samples batch by batch; the file appears under its name once it is complete.

    Args:
        path: ``*.npz``, ``*.parquet``, or a name without suffix for a folder of PNG. An existing
            file is replaced; a folder must be new or empty.
        samples: Batches of one image shape, all with labels or all without. Images are rounded to
            the nearest of 256 levels.
        num_images: Number of images that follow, 1 or more.
        names: Relative path of each image, kept by folders and parquet; None names files by id.

    Returns:
        The path written.

    Raises:
        InputError: The path cannot be written, or the samples are not as announced.
    """
    path = Path(path)
    check_output(path)
    if num_images < 1:
        raise InputError(f"{path}: {num_images} images to write; there must be at least one")
    if names is not None and len(names) != num_images:
        raise InputError(f"{path}: {num_images} images but {len(names)} names")
    batches = checked(path, samples, num_images)
    with write_aside(path) as aside:
        _module(path.suffix.lower()).write(aside, batches, num_images, names)
    return path


def check_output(path: Path, *inputs: Path) -> None:
    """Refuse a path that cannot be written or would replace an input, before any work is done."""
    if path.suffix.lower() not in FORMATS:
        raise _unknown_suffix(path, "writable", "folders of PNG (a name without suffix)")
    check_target(path, *inputs)
    if not path.suffix and path.is_file():
        raise InputError(f"{path} is a file; choose another name for the folder")
    if not path.suffix and path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path}: the folder is not empty; empty it or choose another name")


def _module(suffix: str) -> Any:
    return importlib.import_module(FORMATS[suffix])


def _unknown_suffix(path: Path, able: str, others: str) -> InputError:
    known = ", ".join(filter(None, FORMATS))
    return InputError(f"{path}: unknown suffix {path.suffix!r}; {able} are {known} and {others}")
