"""Influences beside a result: what the difference of two results is paired by."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.metrics.intervals import HALVED_SIZE, Estimate
from burnish.metrics.metric import METRICS
from burnish.metrics.moments import Array

HALVED = ("recall", "coverage")
SHARES = ("precision", "copying", "accuracy", *HALVED)
MAX_ROWS = 10**8
BYTES = {"i": 8, "f": 4}


def influence_path(result: Path) -> Path:
    """Return where the influences of a result lie: ``r.influence.npz`` beside ``r.json``."""
    return result.with_suffix(".influence.npz")


def write_influences(
    path: Path, ids: NDArray[np.int64], found: Mapping[str, Estimate], fingerprint: str
) -> None:
    """Write ``ids`` int64 ``[N]`` and a float32 member per metric, with the fingerprint.

    float32 has digits enough: an influence is a part of a standard error.
    """
    members: dict[str, Any] = {
        key: estimate.influence.astype(np.float32) for key, estimate in found.items()
    }
    with write_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, ids=np.asarray(ids, np.int64), card=np.array(fingerprint), **members)


def read_influences(
    path: Path, values: Mapping[str, float], num_images: int, fingerprint: str
) -> tuple[Array, dict[str, Estimate], set[str]]:
    """Return the ids and the estimates of a result, and of which metrics there is another number.

    Other versions halve in other ways; their recall and coverage cannot be paired with these.

    Args:
        path: See :func:`influence_path`.
        values: Of the metrics that are wanted, by key.
        num_images: Of the result.
        fingerprint: Of the result.

    Raises:
        InputError: The file is no such file, or of another result.
    """
    try:
        with ZipFile(path) as archive:
            card = _member(archive, "card", "U", 64)
            if str(card) != fingerprint:
                raise InputError("is of another result")
            ids = _member(archive, "ids", "i", num_images)
            known = {metric.key for metric in METRICS} & {*values}
            keys = [key for key in known if f"{key}.npy" in archive.namelist()]
            found = {key: _member(archive, key, "f", num_images, key in HALVED) for key in keys}
    except InputError as error:
        raise InputError(f"{path} {error}; evaluate again") from error
    except Exception as error:  # of zip, its decompressors and numpy
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"{path} is no file of influences ({reason}); evaluate again") from error
    shares = {key for key in found if key in SHARES or (key, values[key]) == ("density", 0)}
    others = {key for key in found if key in HALVED and len(found[key]) != HALVED_SIZE}
    estimates = {
        key: Estimate(
            values[key], influence.astype(np.float64), key in HALVED,
            trials=num_images if key in shares else 0,
        )
        for key, influence in found.items()
        if key not in others
    }  # fmt: skip
    return ids, estimates, others


def _member(archive: ZipFile, name: str, kind: str, count: int, is_free: bool = False) -> Array:
    """Read one member whose header says that it is what it should be."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > 2 * entry.compress_size + 4096:  # as written, nothing is compressed
        raise InputError(f"holds {json.dumps(name)}, compressed to next to nothing")
    with archive.open(entry) as stream:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = readers[npy.read_magic(stream)](stream)
    fits = shape == () if kind == "U" else len(shape) == 1 and 2 <= shape[0] <= MAX_ROWS
    fits = fits and (kind == "U" or is_free or shape[0] == count)
    if is_free and shape and shape[0] > 10_000:
        fits = False
    if not fits or dtype.kind != kind or dtype.itemsize > BYTES.get(kind, 4 * count):
        raise InputError(f"holds {json.dumps(name)} of shape {list(shape)} and type {dtype}")
    with archive.open(f"{name}.npy") as stream:
        array = npy.read_array(stream, allow_pickle=False)
    if kind == "f" and not np.isfinite(array).all():
        raise InputError(f"holds infinite or missing numbers as {name}")
    return array
