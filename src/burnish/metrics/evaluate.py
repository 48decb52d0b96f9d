"""One pass over generated images, and every number that can be had of their features."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from burnish.errors import InputError
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.formulas import (
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from burnish.metrics.moments import MomentSum
from burnish.metrics.reference import Reference, extract, make_reference
from burnish.samples import Samples

__all__ = ["Reference", "evaluate", "make_reference"]

NUM_SPLITS = 10
SUBSET_SIZE = 1000
NUM_SUBSETS = 100
NEIGHBOR_METRICS = ("precision", "recall", "density", "coverage")


def evaluate(
    samples: Iterable[Samples],
    extractor: FeatureExtractor,
    reference: Reference,
    *,
    num_neighbors: int = 3,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Return the metrics of generated images, at full precision, with all that identifies them.

    Images are rounded to uint8 as they are on disk. Rows are put in the order of their ids before
    anything is drawn at random, so neither batches nor the order of shards change a number.

    Args:
        samples: The generated images, in one pass.
        extractor: What makes the features.
        reference: Made with the same extractor.
        num_neighbors: k of precision, recall, density and coverage.
        seed: Of the random subsets of the KID and the shuffle of the Inception Score.
        progress: Called after each batch with the number of images done so far.

    Returns:
        A dict for JSON. A metric which cannot be had is None, and ``warnings`` says why.

    Raises:
        InputError: There are fewer than two images, a feature is NaN, or the reference was made
            with another extractor.
    """
    reference.check(extractor)
    total, ids, features, probabilities = MomentSum(), [], [], []
    for batch, batch_features, batch_probabilities in extract(samples, extractor):
        total.add(batch_features)
        ids.append(batch.ids.cpu().numpy())
        features.append(batch_features)
        if batch_probabilities is not None:
            probabilities.append(batch_probabilities)
        if progress:
            progress(total.count)
    if total.count < 2:
        raise InputError(f"metrics need at least 2 generated images, not {total.count}")
    order = np.argsort(np.concatenate(ids), kind="stable")
    generated = np.concatenate(features)[order]
    del features  # as large as the copy in order

    notes = _warnings(total.count, generated.shape[1], reference, num_neighbors)
    result: dict[str, Any] = {
        "feature_extractor": extractor.name,
        "feature_extractor_sha256": extractor.sha256,
        "num_images": total.count,
        "reference": reference.source,
        "num_reference_images": reference.num_images,
        "num_reference_features": None if reference.features is None else len(reference.features),
        "num_neighbors": num_neighbors,
        "fid": frechet_distance(generated=total.moments(), reference=reference.moments),
        "kid": None,
        "inception_score": None,
        "inception_score_std": None,
        **dict.fromkeys(NEIGHBOR_METRICS),
        "settings": {
            "kid_subset_size": SUBSET_SIZE,
            "kid_num_subsets": NUM_SUBSETS,
            "inception_score_splits": min(NUM_SPLITS, total.count),
            "seed": seed,
        },
        "warnings": notes,
    }
    if probabilities:
        result["inception_score"], result["inception_score_std"] = inception_score(
            np.concatenate(probabilities)[order], min(NUM_SPLITS, total.count), seed
        )
    if reference.features is not None:
        sides = {"generated": generated, "reference": reference.features}
        fewest = min(map(len, sides.values()))
        if fewest >= 2:
            result["kid"] = kernel_distance(
                **sides, subset_size=SUBSET_SIZE, num_subsets=NUM_SUBSETS, seed=seed
            )
        if fewest > num_neighbors:
            result |= precision_recall(**sides, num_neighbors=num_neighbors)
    return result


def _warnings(count: int, dim: int, reference: Reference, num_neighbors: int) -> list[str]:
    """Say what makes the numbers doubtful or missing."""
    notes = []
    for side, images in (("generated", count), ("reference", reference.num_images)):
        if images is not None and images < 10 * dim:
            notes.append(
                f"{images} {side} images for {dim} feature dimensions: the covariance is poorly "
                "determined and the FID too high; prefer the KID, or FIDs of equal numbers"
            )
    if reference.extractor_sha256 is None:
        notes.append("the reference names no feature extractor; it is taken to be this one")
    if reference.features is None:
        notes.append("the reference holds no features: no KID, precision, recall or the like")
    elif min(count, len(reference.features)) <= num_neighbors:
        notes.append(f"too few images for {num_neighbors} neighbours: no precision or recall")
    return notes
