"""The two sides of an evaluation: real images or their statistics, and rows of either."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from burnish.errors import InputError, unknown
from burnish.hub import shipped
from burnish.jobs.source import samples_sha256
from burnish.metrics.extraction import Extracted
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.reference import Reference
from burnish.metrics.reference_file import holds_statistics
from burnish.samples import Samples, to_uint8
from burnish.storage.datasets import NAMES, load_dataset, parse_rows
from burnish.storage.formats import open_samples
from burnish.storage.remote import is_remote

ROWS = re.compile(r"(.+)\[(\d+-\d+)\]")
FEATURES = "features.npz"


class Side(NamedTuple):
    """Images that are read in ranges."""

    num_images: int
    read: Callable[[int, int], Iterator[Samples]]
    """From a first place to one behind the last."""


def split_rows(source: str) -> tuple[str, str]:
    """Return the path, or name, and the rows of ``PATH[0-9999]``; no rows where none are named."""
    rows = ROWS.fullmatch(source)
    return (rows[1], rows[2]) if rows else (source, "")


def check_reference(name: str) -> None:
    """Raise InputError where a name or path means no reference."""
    path, rows = split_rows(name)
    if not path:
        raise unknown("reference", name, [*shipped("reference"), "PATH"])
    if name in shipped("reference") or is_remote(path) or any(sign in path for sign in "*?{"):
        return
    if Path(path).exists():
        return
    if Path(path).suffix:
        raise InputError(f"no such reference: there is no {path}")
    if not rows:
        raise unknown("reference", name, [*shipped("reference"), "PATH"])


def reference_sha256(name: str) -> str:
    """Return the hash of what a reference is made from; its name where that is no file."""
    path, rows = split_rows(name)
    return samples_sha256(shipped("reference").get(name, Path(path))) + rows


def side_of(name: str, extractor: FeatureExtractor, batch_size: int) -> Side | Reference:
    """Return real images, or the statistics that a name or file means.

    Some rows of a labeled set are meant by ``NAME_OR_PATH[first-last]``, e.g. ``digits[0-99]``.

    Args:
        name: As for :func:`known_reference` or :func:`images_of`.
        extractor: Looks at the images of files that hold statistics and images.
        batch_size: Images that are read together.

    Raises:
        InputError: It does not exist, or was made with another extractor.
    """
    return known_reference(name, extractor) or images_of(name, batch_size)


def known_reference(name: str, extractor: FeatureExtractor) -> Reference | None:
    """Return the reference of a name or a file of statistics; None for real images.

    Raises:
        InputError: It was made with another extractor.
    """
    known = shipped("reference")
    if name in known or holds_statistics(Path(name)):
        return Reference.load(known.get(name, Path(name)), extractor=extractor)
    return None


def images_of(name: str, batch_size: int) -> Side:
    """Open the images of a path, a data set's name, or some rows of either.

    Raises:
        InputError: They do not exist, or are fewer than the rows.
    """
    path, rows = split_rows(name)
    if rows and path in NAMES and not Path(path).exists():
        data = load_dataset(path, rows)

        def read(first: int, last: int) -> Iterator[Samples]:
            for start in range(first, last, batch_size):
                yield data.samples(slice(start, min(start + batch_size, last)))

        return Side(len(data), read)
    file = open_samples(path, batch_size)
    part = parse_rows(rows, len(file))
    return Side(part.stop - part.start, lambda a, b: file.rows(part.start + a, part.start + b))


def check_side(
    side: Side | Reference, extractor: FeatureExtractor, what: str, dim: int = 0
) -> int:
    """Return the size D of the features of a side, by its first image.

    Args:
        side: Images or statistics.
        extractor: What will look at all images.
        what: Says in messages which side of which file it is.
        dim: D of the other side; 0 if it is not known yet.

    Raises:
        InputError: It has fewer than two images, or they do not fit the extractor or D.
    """
    if isinstance(side, Reference):
        side.check_size(dim, extractor.name)
        return dim
    if side.num_images < 2:
        raise InputError(f"{what}: metrics need at least 2 images, not {side.num_images}")
    images = to_uint8(next(side.read(0, 1)).images)
    try:
        return extractor(images).features.shape[1]
    except RuntimeError as error:
        shape = list(images.shape[1:])
        message = f"{what}: {extractor.name} does not take images of shape {shape}"
        raise InputError(message) from error
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def save_features(folder: Path, found: Extracted) -> None:
    """Keep what an extractor makes of a shard in the folder of the shard."""
    known = {key: value for key, value in found._asdict().items() if value is not None}
    np.savez(folder / FEATURES, **known)  # pyright: ignore[reportArgumentType]


def load_features(folder: Path) -> Extracted:
    """Return what :func:`save_features` has kept."""
    with np.load(folder / FEATURES, allow_pickle=False) as file:
        return Extracted(file["ids"], file["features"], *(
            file[key] if key in file else None for key in ("probabilities", "spatial", "labels")
        ))  # fmt: skip
