"""Files of statistics of real images: burnish's own, and those of other tools.

``.npz`` with ``mu`` and ``sigma`` (ADM, EDM, TTUR, pytorch-fid, clean-fid), ``mu_s`` and
``sigma_s`` (ADM), or ``feats`` alone (clean-fid's KID); and the pickle of EDM2, a dict of such
dicts, which is read without unpickling.
"""

from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy

from burnish.documents import MAX_BYTES, parse_json
from burnish.errors import InputError, shown
from burnish.metrics.moments import Array, Moments, MomentSum, check_covariance

MAX_FEATURES, LARGEST = 16_384, 1e15
PICKLES = (".pkl", ".pickle")
FEATURES = "features", "feats"


class Held(NamedTuple):
    """What a file holds."""

    moments: Moments
    spatial: Moments | None = None
    """Of the spatial features of the sFID."""
    features: Array | None = None
    card: Any = None
    """Plain values, of which nothing is known yet."""
    has_images: bool = False
    """Whether the images of precision and recall are in the file, as ``arr_0``."""


def holds_statistics(path: Path) -> bool:
    """Return whether a path is a file of statistics, to judge by the names in it."""
    if path.suffix in PICKLES and path.is_file():
        return True
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except BadZipFile:
        return False
    return "mu.npy" in names or ("feats.npy" in names and "arr_0.npy" not in names)


def read_statistics(path: Path, extractor: str | None = None) -> Held:
    """Read a file of statistics.

    Args:
        path: ``.npz`` or ``.pkl``.
        extractor: Name of the feature extractor whose statistics are wanted, where a file has
            those of several; None for those of Inception.

    Raises:
        InputError: The file is not there or not such a file.
    """
    if not path.exists():
        raise InputError(f"no such reference file: {path}")
    try:
        if path.suffix in PICKLES:
            return _pickled(path, extractor)
        with ZipFile(path if path.is_file() else "") as archive:
            return _members(archive)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except Exception as error:  # of zip, its decompressors and numpy
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        message = f"{path} is not an .npz with the members mu and sigma ({reason})"
        raise InputError(message) from error


def _members(archive: ZipFile) -> Held:
    """Read what a reference consists of, once the headers have said that it is of fitting size."""
    names = archive.namelist()
    name = next((one for one in FEATURES if f"{one}.npy" in names), FEATURES[0])
    rows, card = _shape(archive, name), None
    (size, *more) = _shape(archive, "mu") or (rows or (0,))[1:] or (0,)
    if more or not 1 <= size <= MAX_FEATURES:
        raise InputError(f"mu and sigma are not [D] and [D, D] with D of 1 to {MAX_FEATURES}")
    if rows and (len(rows) != 2 or rows[1] != size or not 1 <= rows[0] <= 2**32 // size):
        raise InputError(f"features of shape {list(rows)} are not [N, D] with D of {size}")
    features = _floats(archive, name).astype(np.float32) if rows else None
    if "mu.npy" in names or features is None:
        moments = _moments(archive, "mu", "sigma")
    else:
        total = MomentSum()
        total.add(features)
        moments = total.moments()
    spatial = _moments(archive, "mu_s", "sigma_s") if "mu_s.npy" in names else None
    if _shape(archive, "card") == ():
        with archive.open("card.npy") as stream:
            array = npy.read_array(stream, allow_pickle=False)
        card = parse_json(str(array), "card")
    images = features is None and len(_shape(archive, "arr_0") or ()) == 4
    return Held(moments, spatial, features, card, images)


def _moments(archive: ZipFile, mu: str, sigma: str) -> Moments:
    (size, *more) = _shape(archive, mu) or (0,)
    if more or not 1 <= size <= MAX_FEATURES or _shape(archive, sigma) != (size, size):
        raise InputError(f"{mu} and {sigma} are not [D] and [D, D] with D of 1 to {MAX_FEATURES}")
    return _checked(_floats(archive, mu), _floats(archive, sigma))


def _checked(mu: Array, sigma: Array) -> Moments:
    found = Moments(mu.astype(np.float64), sigma.astype(np.float64))
    check_covariance(found.sigma)
    return found


def _pickled(path: Path, extractor: str | None) -> Held:
    """Read EDM2's dict: ``fid`` of Inception or ``fd_dinov2``, each with mu and sigma."""
    from burnish.foreign.reader import read_checkpoint

    held, key = read_checkpoint(path).content, "fid"
    if (extractor or "").startswith("dinov2"):
        key = "fd_dinov2"
    if not isinstance(held, dict) or not isinstance(held.get(key), dict):
        names = ", ".join(map(str, held)) if isinstance(held, dict) else type(held).__name__
        raise InputError(f"it has no statistics {key!r}, as EDM2 keeps them: {shown(names)}")
    arrays = []
    for name in ("mu", "sigma"):
        array = held[key].get(name)
        if not isinstance(array, np.ndarray):
            raise InputError(f"{key}: {name} is no array")
        arrays.append(_finite(array, f"{key}: {name}"))
    mu, sigma = arrays
    if mu.ndim != 1 or not 1 <= mu.size <= MAX_FEATURES or sigma.shape != (mu.size, mu.size):
        raise InputError(f"{key}: mu and sigma are not [D] and [D, D]")
    count = held.get("num_images")
    known = isinstance(count, int) and not isinstance(count, bool) and count >= 2
    return Held(_checked(mu, sigma), card={"num_images": count} if known else None)


def _shape(archive: ZipFile, name: str) -> tuple[int, ...] | None:
    """Return the shape of a member; None if there is none."""
    if f"{name}.npy" not in archive.namelist():
        return None
    with archive.open(f"{name}.npy") as stream:
        version = npy.read_magic(stream)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise InputError(f"{name} holds pickled Python objects; save numbers instead")
    if dtype.kind == "U" and dtype.itemsize > 4 * MAX_BYTES:
        raise InputError(f"{name} is too large")
    return shape


def _floats(archive: ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as stream:
        return _finite(npy.read_array(stream, allow_pickle=False), name)


def _finite(array: Array, name: str) -> Array:
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise InputError(f"{name} must hold floating-point numbers, not {array.dtype}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} must hold finite numbers, not NaN or infinity; make it again")
    if array.size and float(np.abs(array).max()) > LARGEST:
        raise InputError(f"{name} holds numbers beyond {LARGEST:g}, which no features reach")
    return array
