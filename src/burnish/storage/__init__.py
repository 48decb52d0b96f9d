"""Samples on disk: ``.npz``, ``.parquet`` and folders of images, one module per format.

:func:`open_samples` and :func:`write_samples` choose the format by the path. Both pass one batch
at a time through memory and keep the order; images in files are uint8, so that writing rounds.
"""

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.storage import folder, npz, parquet
from burnish.storage.sample_file import SampleFile, checked

__all__ = ["SampleFile", "open_samples", "write_samples"]


def open_samples(path: str | Path, batch_size: int = 256) -> SampleFile:
    """Open samples for reading in batches, in order, as often as needed.

    Args:
        path: An ``.npz``, a ``.parquet``, a pattern such as ``data/train-*.parquet``, or a folder:
            of ``.parquet`` files if it holds any, else of images.
        batch_size: Images per batch.

    Raises:
        InputError: There is nothing there, or it cannot be read; what only shows in the pixels is
            raised while iterating.
    """
    path = Path(path)
    if batch_size < 1:
        raise InputError(f"a batch of {batch_size} images cannot be read; give 1 or more")
    if path.is_dir():
        kind = parquet.ParquetSamples if parquet.find_parts(path) else folder.FolderSamples
        return kind(path, batch_size)
    suffix = path.suffix.lower()
    if not (parquet.find_parts(path) if suffix == ".parquet" else path.exists()):
        raise InputError(f"{path}: no such file or folder; check the path")
    if suffix == ".npz":
        return npz.NpzSamples(path, batch_size)
    if suffix == ".parquet":
        return parquet.ParquetSamples(path, batch_size)
    raise InputError(
        f"{path}: unknown suffix {path.suffix!r}; readable are .npz, .parquet and folders "
        f"of images ({', '.join(folder.IMAGE_SUFFIXES)})"
    )


def write_samples(
    path: str | Path,
    samples: Iterable[Samples],
    num_images: int,
    names: Sequence[str] | None = None,
) -> Path:
    """Write samples as they come; nothing appears under the final name before the last one is in.

    Args:
        path: ``*.npz``, ``*.parquet``, or a name without suffix for a folder of PNG. A file that
            exists is replaced; a folder must be new or empty.
        samples: Batches of one image shape, all with labels or all without.
        num_images: How many images will come, at least one.
        names: Relative path of each image, kept by folders and parquet; None names files by id.

    Returns:
        The path written.

    Raises:
        InputError: The path cannot be written, or the samples are not as announced.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".parquet", ""):
        raise InputError(
            f"{path}: unknown suffix {path.suffix!r}; writable are .npz, .parquet and folders "
            "of PNG (a name without suffix)"
        )
    if num_images < 1:
        raise InputError(f"{path}: {num_images} images to write; there must be at least one")
    if names is not None and len(names) != num_images:
        raise InputError(f"{path}: {num_images} images but {len(names)} names")
    _check_target(path, is_folder=not suffix)
    batches = checked(path, samples, num_images)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written there ({error}); choose a path") from error
    with aside:
        target = Path(aside.name) / path.name
        if suffix == ".npz":
            npz.write(target, batches, num_images)
        elif suffix == ".parquet":
            parquet.write(target, batches, names)
        else:
            folder.write(target, batches, num_images, names)
        os.replace(target, path)
    return path


def _check_target(path: Path, is_folder: bool) -> None:
    """Refuse a target that is in the way, before any image is made."""
    if is_folder and path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path}: the folder is not empty; empty it or choose another name")
    if is_folder and path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file of this name exists; choose another name")
    if not is_folder and path.is_dir():
        raise InputError(f"{path}: a folder of this name exists; choose another name")
