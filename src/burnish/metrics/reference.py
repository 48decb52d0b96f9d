"""References: moments of the features of all real images, and the features of some."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from burnish.documents import MAX_BYTES, parse_json
from burnish.errors import InputError
from burnish.files import write_aside
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.moments import Array, Moments, MomentSum, check_covariance
from burnish.samples import Samples, to_uint8
from burnish.schema import Range, read
from burnish.storage.formats import open_samples

CARD = ("num_images", "feature_extractor", "extractor_sha256", "source")
MAX_FEATURES, LARGEST = 16_384, 1e15


@dataclass(frozen=True)
class ReferenceCard:
    """What a file of a reference says of itself; a field that is not listed is never read."""

    open = True
    num_images: Annotated[int | None, Range(2)] = None
    feature_extractor: str | None = None
    extractor_sha256: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Reference:
    """What generated images are compared with.

    Args:
        moments: Of the features of all reference images.
        features: ``[N, D]``, of all or some of the images; None in files of other tools.
        num_images: Number of images that the moments are of; None if unknown.
        feature_extractor: Name of the extractor; None if unknown.
        extractor_sha256: Hash of its weights; None if unknown.
        source: Where the images come from, in words.
    """

    moments: Moments
    features: Array | None
    num_images: int | None
    feature_extractor: str | None
    extractor_sha256: str | None
    source: str

    def check(self, extractor: FeatureExtractor) -> None:
        """Raise InputError if the weights of the extractor are not those of this reference."""
        if self.extractor_sha256 not in (None, extractor.sha256):
            made, given = f"{self.extractor_sha256}"[:12], extractor.sha256[:12]
            raise InputError(
                f"the reference {self.source!r} was made with {self.feature_extractor!r} "
                f"({made}), not with {extractor.name!r} ({given}); make it again, or use that one"
            )

    def check_size(self, size: int, name: str) -> None:
        """Raise InputError if features are of another size than those of this reference."""
        if size != self.moments.mu.size:
            raise InputError(
                f"the reference {self.source!r} is of {self.moments.mu.size} features, but {name} "
                f"gives {size}; it was made with another feature extractor"
            )

    def save(
        self, path: str | Path, *, features_dtype: Literal["float16", "float32"] = "float32"
    ) -> None:
        """Write an ``.npz`` with ``mu``, ``sigma``, ``features`` and a JSON ``card``.

        pytorch-fid and EDM read ``mu`` and ``sigma`` from the same members. As float16, features
        have 3 digits and take half the space; InputError is raised if they do not fit into it.
        """
        card = json.dumps({key: getattr(self, key) for key in CARD})
        members: dict[str, Any] = {"mu": self.moments.mu, "sigma": self.moments.sigma}
        if self.features is not None:
            with np.errstate(over="ignore"):  # checked below
                members["features"] = self.features.astype(features_dtype)
            if not np.isfinite(members["features"]).all():
                raise InputError(f"the features do not fit into {features_dtype}; use float32")
        with write_aside(Path(path)) as aside, aside.open("wb") as file:
            np.savez(file, card=np.array(card), **members)

    @classmethod
    def load(cls, path: str | Path, *, extractor: FeatureExtractor | None = None) -> Reference:
        """Read a file of :meth:`save`, or ``mu`` and ``sigma`` of one of ADM, EDM or pytorch-fid.

        Files of ADM hold images besides, as ``arr_0``; the extractor, if one is given, makes the
        features of them.

        Raises:
            InputError: The file is not there or not such a file, or :meth:`check` or
                :meth:`check_size` refuses the extractor, if one is given.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(f"no such reference file: {path}")
        try:
            with ZipFile(path if path.is_file() else "") as archive:
                mu, sigma, features, card = _members(archive)
                images = "features.npy" not in archive.namelist() and _shape(archive, "arr_0")
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except Exception as error:  # of zip, its decompressors and numpy
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            message = f"{path} is not an .npz with the members mu and sigma ({reason})"
            raise InputError(message) from error
        known = read(ReferenceCard, card, f"{path}: card")
        found = cls(
            Moments(mu, sigma), features, known.num_images, known.feature_extractor,
            known.extractor_sha256, known.source or str(path),
        )  # fmt: skip
        if extractor is not None:
            found.check(extractor)
        if extractor is not None and images and len(images) == 4:
            file = open_samples(path)
            made = make_reference(file, extractor, source=str(path), num_images=len(file))
            found.check_size(made.moments.mu.size, extractor.name)
            found = replace(found, features=made.features)
        return found


def _members(archive: ZipFile) -> tuple[Array, Array, Array | None, Any]:
    """Read what a reference consists of, once the headers have said that it is of fitting size."""
    (size, *more), card = _shape(archive, "mu") or (0,), {}
    rows = _shape(archive, "features")
    if more or not 1 <= size <= MAX_FEATURES or _shape(archive, "sigma") != (size, size):
        raise InputError(f"mu and sigma are not [D] and [D, D] with D of 1 to {MAX_FEATURES}")
    if rows and (len(rows) != 2 or rows[1] != size or not 1 <= rows[0] <= 2**32 // size):
        raise InputError(f"features of shape {list(rows)} are not [N, D] with D of {size}")
    mu, sigma = (_floats(archive, name).astype(np.float64) for name in ("mu", "sigma"))
    features = _floats(archive, "features").astype(np.float32) if rows else None
    if _shape(archive, "card") == ():
        with archive.open("card.npy") as stream:
            array = npy.read_array(stream, allow_pickle=False)
        card = parse_json(str(array), "card")
    check_covariance(Moments(mu, sigma).sigma)
    return mu, sigma, features, card


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
        array = npy.read_array(stream, allow_pickle=False)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8 or not np.isfinite(array).all():
        raise InputError(f"{name} must hold finite floating-point numbers, not {array.dtype}")
    if array.size and float(np.abs(array).max()) > LARGEST:
        raise InputError(f"{name} holds numbers beyond {LARGEST:g}, which no features reach")
    return array


class Extracted(NamedTuple):
    """What an extractor makes of a batch, row by row."""

    ids: NDArray[np.int64]
    features: Array
    probabilities: Array | None
    spatial: Array | None


def extract(
    samples: Iterable[Samples],
    extractor: FeatureExtractor,
    reference: Reference | None = None,
    *,
    spatial: bool = False,
) -> Iterator[Extracted]:
    """Yield what an extractor makes of each batch; spatial features only if they are wanted.

    Raises:
        InputError: Features are NaN or infinite, or not of the size of the reference's.
    """
    for batch in filter(len, samples):
        if reference is not None:  # one image shows it, before the many are looked at
            first = extractor(to_uint8(batch.images[:1])).features
            reference.check_size(first.shape[1], extractor.name)
            reference = None
        found = extractor(to_uint8(batch.images))
        if not bool(found.features.isfinite().all()):
            raise InputError(f"{extractor.name!r} gave NaN or infinite features")
        rest = (found.probabilities, found.spatial if spatial else None)
        yield Extracted(
            batch.ids.cpu().numpy(), found.features.cpu().numpy(),
            *(None if one is None else one.cpu().numpy() for one in rest),
        )  # fmt: skip


def make_reference(
    samples: Iterable[Samples],
    extractor: FeatureExtractor,
    *,
    source: str,
    num_images: int,
    max_features: int = 10000,
) -> Reference:
    """Return the reference of images: moments of all, features of up to ``max_features``.

    The images are read in one pass; ``source`` says in words where they come from.
    """
    features = (batch.features for batch in extract(samples, extractor))
    return reference_of(
        features, extractor, source=source, num_images=num_images, max_features=max_features
    )


def reference_of(
    parts: Iterable[Array],
    extractor: FeatureExtractor,
    *,
    source: str,
    num_images: int,
    max_features: int = 10000,
) -> Reference:
    """Return the reference of features ``[B, D]`` that are known already, part by part."""
    places, total, kept = kept_rows(num_images, max_features), MomentSum(), []
    for features in parts:
        wanted = places[(places >= total.count) & (places < total.count + len(features))]
        kept.append(features[wanted - total.count])
        total.add(features)
    if total.count != num_images:
        raise InputError(f"{source} has {total.count} images where {num_images} were announced")
    return Reference(
        total.moments(), np.concatenate(kept), num_images, extractor.name, extractor.sha256, source
    )


def kept_rows(num_images: int, max_features: int = 10000) -> NDArray[np.int64]:
    """Return which rows of features a reference keeps, in ascending order.

    Files are often sorted by class, or repeat the classes in turn. The rows are therefore cut into
    ``max_features`` equal stretches, and one is drawn from each with a fixed seed.
    """
    stretches = min(max_features, num_images)
    edges = np.arange(stretches + 1) * num_images // max(stretches, 1)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:])
