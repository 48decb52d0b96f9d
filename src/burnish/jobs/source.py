"""What a job reads, as its options say: own labels, tiles of grids; and the hash of all of it."""

import hashlib
import os
from pathlib import Path
from typing import Any

from burnish.errors import InputError, unknown
from burnish.files import path_sha256
from burnish.refinement.settings import LABELINGS
from burnish.storage.formats import open_samples
from burnish.storage.parts import find_parts
from burnish.storage.sample_file import SampleFile


def open_source(samples: str | Path, given: Any, batch_size: int) -> SampleFile:
    """Open samples with the labels and tiles that the options ask for.

    Args:
        samples: See :func:`burnish.open_samples`.
        given: Options with the fields ``tile`` and ``padding``, and maybe ``labels``.
        batch_size: Images per batch.

    Raises:
        InputError: They cannot be read, or there are no such labels.
    """
    labels = own_labels(getattr(given, "labels", LABELINGS[0]))
    return open_samples(samples, batch_size, labels=labels, tile=given.tile, padding=given.padding)


def own_labels(labels: str) -> int | str | None:
    """Return the class of all images, or the file of labels, that is meant; None for a labeling.

    Raises:
        InputError: It is neither, and no labeling.
    """
    if labels in LABELINGS:
        return None
    if labels.isdecimal():
        return int(labels)
    if not Path(labels).suffix and not Path(labels).exists():
        raise unknown("labels", labels, [*LABELINGS, "CLASS", "FILE"])
    return labels


def samples_sha256(path: str | Path, file: SampleFile | None = None) -> str:
    """Return the hash of files of samples: a path, or all that a pattern stands for.

    Args:
        path: As it was given.
        file: It, opened; where it lies elsewhere, the copy here is hashed.
    """
    local = Path(path) if file is None or Path(path).exists() else file.path
    try:
        parts = find_parts(local)
    except InputError:  # a data set by its name
        return str(path)
    hashes = [path_sha256(part) for part in parts]
    if len(parts) == 1:
        return hashes[0]
    lines = (f"{part.name} {sha256}" for part, sha256 in zip(parts, hashes, strict=True))
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()
