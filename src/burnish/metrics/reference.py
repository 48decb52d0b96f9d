"""References: moments of the features of all real images, and the features of some."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.metrics.draws import whole
from burnish.metrics.extraction import extract
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.moments import Array, Moments, MomentSum, moments_of
from burnish.metrics.overlap import Marks, joined_marks, marks_of, shared
from burnish.metrics.protocol import PROTOCOLS, Protocol
from burnish.metrics.reference_file import read_statistics
from burnish.samples import Samples, to_uint8
from burnish.schema import Range, read
from burnish.storage.formats import open_samples

CARD = ("num_images", "feature_extractor", "extractor_sha256", "source")
BURNISH = PROTOCOLS["burnish"]


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
        spatial: Moments of spatial features, for the sFID; None if there are none.
        all_marks: Marks of all images, where features are kept of some or none.
    """

    moments: Moments
    features: Array | None
    num_images: int | None
    feature_extractor: str | None
    extractor_sha256: str | None
    source: str
    spatial: Moments | None = None
    all_marks: Marks | None = None

    @cached_property
    def marks(self) -> Marks | None:
        """What the images, or those of the features, are recognized by; None if not known."""
        if self.all_marks is None and self.features is not None:
            return marks_of(self.features)
        return self.all_marks

    def check(self, extractor: FeatureExtractor) -> None:
        """Raise InputError if the weights of the extractor are not those of this reference."""
        if self.extractor_sha256 not in (None, extractor.sha256):
            made, given = f"{self.extractor_sha256}"[:12], extractor.sha256[:12]
            raise InputError(
                f"the reference {self.source!r} was made with {self.feature_extractor!r} "
                f"({made}), not with {extractor.name!r} ({given}); make it again, or use that one"
            )

    def check_validation(self, reference: Reference, rows: Array) -> None:
        """Refuse this as validation images for a reference and features ``[N, D]`` of images.

        Raises:
            InputError: All images, or their moments, are among those of the reference, so that the
                FDr would divide by 0 or by too little; or among the images to be measured.
        """
        for what, moments, marks in (
            (f"those of the reference {reference.source!r}", reference.moments, reference.marks),
            ("generated images", moments_of(rows), marks_of(rows)),
        ):
            same, own = self.moments.equal(moments), self.marks
            if same or (own and marks and bool(shared(own, marks).all())):
                raise InputError(
                    f"the validation images {self.source!r} are {'' if same else 'all among '}"
                    f"{what}; name other real images under --validation"
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

        pytorch-fid, clean-fid, TTUR, EDM and EDM2 read ``mu`` and ``sigma`` from the same members,
        ADM's evaluator ``mu_s`` and ``sigma_s`` too, if there are spatial features. As float16,
        features have 3 digits and take half the space; InputError is raised if they do not fit.
        """
        card = json.dumps({key: getattr(self, key) for key in CARD})
        members: dict[str, Any] = {"mu": self.moments.mu, "sigma": self.moments.sigma}
        if self.spatial is not None:
            members |= {"mu_s": self.spatial.mu, "sigma_s": self.spatial.sigma}
        if self.features is not None:
            with np.errstate(over="ignore"):  # checked below
                members["features"] = self.features.astype(features_dtype)
            if not np.isfinite(members["features"]).all():
                raise InputError(f"the features do not fit into {features_dtype}; use float32")
        with write_aside(Path(path)) as aside, aside.open("wb") as file:
            np.savez(file, card=np.array(card), **members)

    @classmethod
    def load(cls, path: str | Path, *, extractor: FeatureExtractor | None = None) -> Reference:
        """Read a file of :meth:`save`, or one of ADM, EDM, EDM2, TTUR, pytorch-fid or clean-fid.

        Files of ADM hold images besides, as ``arr_0``; the extractor, if one is given, makes the
        features of them, while the moments stay those of the file.

        Raises:
            InputError: The file is not there or not such a file, or :meth:`check` or
                :meth:`check_size` refuses the extractor, if one is given.
        """
        path = Path(path)
        held = read_statistics(path, extractor.name if extractor else None)
        known = read(ReferenceCard, {} if held.card is None else held.card, f"{path}: card")
        found = cls(
            held.moments, held.features, known.num_images, known.feature_extractor,
            known.extractor_sha256, known.source or str(path), held.spatial,
        )  # fmt: skip
        if extractor is not None:
            found.check(extractor)
        if extractor is not None and held.has_images:
            file = open_samples(path)
            first = extractor(to_uint8(next(iter(file)).images[:1])).features
            found.check_size(first.shape[1], extractor.name)  # before many are looked at
            made = make_reference(
                file, extractor, source=str(path), num_images=len(file), max_features=len(file)
            )
            found = replace(found, features=made.features)
        return found


def make_reference(
    samples: Iterable[Samples],
    extractor: FeatureExtractor,
    *,
    source: str,
    num_images: int,
    max_features: int | None = 10_000,
    protocol: Protocol = BURNISH,
) -> Reference:
    """Return the reference of images: moments of all, features of up to ``max_features``.

    The images are read in one pass; ``source`` says in words where they come from.
    """
    parts = (
        (batch.features, batch.spatial)
        for batch in extract(samples, extractor, spatial=protocol.spatial)
    )
    return reference_of(
        parts, extractor, source=source, num_images=num_images, max_features=max_features,
        protocol=protocol,
    )  # fmt: skip


def reference_of(
    parts: Iterable[tuple[Array, Array | None]],
    extractor: FeatureExtractor | None,
    *,
    source: str,
    num_images: int,
    max_features: int | None = 10_000,
    protocol: Protocol = BURNISH,
) -> Reference:
    """Return the reference of features ``[B, D]`` that are known already, part by part.

    Args:
        parts: Features and, for the sFID, spatial features of the same images.
        extractor: What made them; None if unknown.
        source: Where the images come from, in words.
        num_images: How many there are.
        max_features: Rows of features to keep; None for all.
        protocol: Says how means are computed and which images count.
    """
    used, seen, kept, marks = whole(protocol, num_images), 0, [], []
    places = kept_rows(used, used if max_features is None else max_features)
    sums = MomentSum(protocol.mean), MomentSum(protocol.mean)
    for part in parts:
        stop = max(used - seen, 0)
        marks.append(marks_of(part[0][:stop]))
        kept.append(part[0][places[(places >= seen) & (places < seen + len(part[0]))] - seen])
        for total, rows in zip(sums, part, strict=True):
            if rows is not None:
                total.add(rows[:stop])
        seen += len(part[0])
    if seen != num_images:
        raise InputError(f"{source} has {seen} images where {num_images} were announced")
    name, sha256 = (extractor.name, extractor.sha256) if extractor else (None, None)
    spatial = sums[1].moments() if sums[1].count else None
    features = np.concatenate(kept) if max_features != 0 else None
    moments = sums[0].moments()
    return Reference(
        moments, features, used, name, sha256, source, spatial, joined_marks(marks)
    )  # fmt: skip


def kept_rows(num_images: int, max_features: int = 10_000) -> NDArray[np.int64]:
    """Return which rows of features a reference keeps, in ascending order.

    Files are often sorted by class, or repeat the classes in turn. The rows are therefore cut into
    ``max_features`` equal stretches, and one is drawn from each with a fixed seed.
    """
    stretches = min(max_features, num_images)
    edges = np.arange(stretches + 1) * num_images // max(stretches, 1)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:])
