"""The card of a result: everything that its numbers depend on besides the generated images.

Numbers with different cards are different quantities, whatever they are called. The fingerprint is
a hash of the card. Versions of libraries are not part of it, as they should not change a number;
they are told beside it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from burnish.metrics.moments import Array, Moments

FINGERPRINT_LENGTH = 16
VERSIONS = ("burnish", "torch", "numpy")


def make_card(
    extractor: Any, reference: Any, num_images: int, num_neighbors: int, protocol: Any,
    settings: Mapping[str, Any], validation: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the card of a result, as values for JSON.

    Args:
        extractor: What made the features, a FeatureExtractor; None if features were given.
        reference: The :class:`~burnish.metrics.reference.Reference`.
        num_images: Number of generated images that count.
        num_neighbors: k of precision and the like.
        protocol: The :class:`~burnish.metrics.protocol.Protocol`.
        settings: Subsets, splits and seed, as in the result.
        validation: Another Reference, of the FDr; or None.
    """
    features = reference.features
    return {
        "feature_extractor": getattr(extractor, "name", None),
        "feature_extractor_sha256": getattr(extractor, "sha256", None),
        "quantization": None if extractor is None else "uint8, rounded",
        "reference_digest": digest(reference.moments, features),
        "num_reference_images": reference.num_images,
        "num_reference_features": None if features is None else len(features),
        "validation_digest": validation and digest(validation.moments),
        "num_images": num_images,
        "num_neighbors": num_neighbors,
        "protocol": json.loads(json.dumps(protocol.settings())),
        "settings": dict(settings),
    }


def digest(moments: Moments, features: Array | None = None) -> str:
    """Return a hash of a reference that is the same for the same images on other machines.

    It is of a few sums with five digits, since sums in another order differ in the last ones: of
    the moments, and of the features that are kept for the metrics that need them.
    """
    sizes = [moments.mu @ moments.mu, np.trace(moments.sigma), np.square(moments.sigma).sum()]
    if features is not None:
        mean = features.mean(0, dtype=np.float64)
        sizes += [mean @ mean, np.square(features, dtype=np.float64).sum()]
    text = " ".join([str(len(moments.mu)), *(f"{size:.4e}" for size in sizes)])
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def fingerprint(card: Mapping[str, Any]) -> str:
    """Return the hash of a card."""
    text = json.dumps(card, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def difference(
    first: Mapping[str, Any], second: Mapping[str, Any], where: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields in which two cards differ, as dotted names, and both values."""
    for key in dict.fromkeys([*first, *second]):
        a, b = first.get(key), second.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from difference(a, b, f"{where}{key}.")
        elif a != b:
            yield f"{where}{key}", a, b
