"""References: moments of the features of all real images, and the features of some."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.moments import Array, Moments, MomentSum
from burnish.samples import Samples, to_uint8

CARD = ("num_images", "feature_extractor", "extractor_sha256", "source")


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

        Raises:
            InputError: The file is not there or not such a file, or :meth:`check` refuses the
                extractor, if one is given.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                mu, sigma = (file[name].astype(np.float64) for name in ("mu", "sigma"))
                card = json.loads(str(file["card"])) if "card" in file else {}
                features = file["features"].astype(np.float32) if "features" in file else None
        except FileNotFoundError:
            raise InputError(f"no such reference file: {path}") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            message = f"{path} is not an .npz with the members mu and sigma ({error})"
            raise InputError(message) from error
        known: dict[str, Any] = {**dict.fromkeys(CARD), "source": str(path), **card}
        found = cls(Moments(mu, sigma), features, **{key: known[key] for key in CARD})
        if extractor is not None:
            found.check(extractor)
        return found


def extract(
    samples: Iterable[Samples], extractor: FeatureExtractor
) -> Iterator[tuple[NDArray[np.int64], Array, Array | None]]:
    """Yield the ids of each batch with the features and probabilities of its images."""
    for batch in filter(len, samples):
        features, probabilities = extractor(to_uint8(batch.images))
        if not bool(features.isfinite().all()):
            raise InputError(f"{extractor.name!r} gave NaN or infinite features")
        classes = None if probabilities is None else probabilities.cpu().numpy()
        yield batch.ids.cpu().numpy(), features.cpu().numpy(), classes


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
    features = (rows for _, rows, _ in extract(samples, extractor))
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
