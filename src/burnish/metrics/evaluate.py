"""All metrics of generated images or their features, in one pass."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.errors import InputError
from burnish.hub import find, shipped
from burnish.metrics import formulas
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.load import load_extractor
from burnish.metrics.metric import METRICS
from burnish.metrics.moments import Array, Moments, MomentSum
from burnish.metrics.reference import Reference, extract, kept_rows
from burnish.samples import Samples

__all__ = ["Images", "evaluate"]

Images = Tensor | Array | Iterable[Samples]
"""Images ``[N, C, H, W]`` in [0, 1], batches of Samples, or features ``[N, D]``."""

NUM_SPLITS = 10
SUBSET_SIZE = 1000
NUM_SUBSETS = 100
BATCH_SIZE = 250


class _Side(NamedTuple):
    """Features of one set of images, in the order of their ids."""

    moments: Moments
    features: Array
    probabilities: Array | None


def evaluate(
    generated: Images,
    reference: Images | Reference | str | Path,
    features: FeatureExtractor | str | None = None,
    *,
    num_neighbors: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all metrics of generated images at full precision, with what identifies them.

    The metrics are those of :data:`burnish.metrics.metric.METRICS`. Images are rounded to uint8,
    as they are when saved. Rows are ordered by their ids before anything is drawn at random, so
    neither the size nor the order of batches changes a number.

    Args:
        generated: Images ``[N, C, H, W]`` in [0, 1], batches of Samples, or features ``[N, D]``.
        reference: The same of real images, a :class:`Reference`, or the name or path of one, e.g.
            ``"cifar10/plain"``. 10,000 rows of features are kept at most.
        features: Makes features of images; an extractor or its name. None if both sides are
            features, or if the reference names a shipped extractor.
        num_neighbors: k of precision, recall, density and coverage; at least 1.
        seed: Seed of the subsets of the KID and of the shuffle of the Inception Score.

    Returns:
        A dict for JSON. A metric that cannot be computed is None, and ``warnings`` says why.

    Raises:
        InputError: There are fewer than two images on a side, features are missing, NaN or of
            different sizes, or the reference was made with another extractor.
    """
    if num_neighbors < 1:
        raise InputError(f"num_neighbors must be at least 1, not {num_neighbors}")
    if features is None and not _are_features(generated) and isinstance(reference, str):
        features = reference if reference in shipped("features") else None
    if isinstance(features, str):
        device = generated.device if isinstance(generated, Tensor) else "cpu"
        features = load_extractor(features, device)
    real = _reference(reference, features)
    side = _side("generated", generated, features)
    return _result(side, real, features, num_neighbors, seed)


def _reference(
    reference: Images | Reference | str | Path, extractor: FeatureExtractor | None
) -> Reference:
    if isinstance(reference, str | Path):
        reference = Reference.load(find("reference", str(reference)))
    if isinstance(reference, Reference):
        if extractor is not None:
            reference.check(extractor)
        return reference
    side = _side("reference", reference, extractor)
    count = len(side.features)
    name, sha256 = (extractor.name, extractor.sha256) if extractor else (None, None)
    return Reference(side.moments, side.features[kept_rows(count)], count, name, sha256, "given")


def _side(name: str, images: Images, extractor: FeatureExtractor | None) -> _Side:
    """Return the features of images, or of features that are given."""
    total, ids, rows, probabilities = MomentSum(), [], [], []
    for batch_ids, batch_rows, batch_probabilities in _batches(name, images, extractor):
        total.add(batch_rows)
        ids.append(batch_ids)
        rows.append(batch_rows)
        if batch_probabilities is not None:
            probabilities.append(batch_probabilities)
    if total.count < 2:
        raise InputError(f"metrics need at least 2 {name} images, not {total.count}")
    order = np.argsort(np.concatenate(ids), kind="stable")
    joined = np.concatenate(probabilities)[order] if probabilities else None
    return _Side(total.moments(), np.concatenate(rows)[order], joined)


def _batches(
    name: str, images: Images, extractor: FeatureExtractor | None
) -> Iterator[tuple[NDArray[np.int64], Array, Array | None]]:
    """Yield ids, features and probabilities."""
    if _are_features(images):
        features = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
        for start in range(0, len(features), BATCH_SIZE):
            part = features[start : start + BATCH_SIZE]
            yield np.arange(start, start + len(part)), part, None
        return
    if extractor is None:
        raise InputError(
            f"the {name} images need a feature extractor; name one, or give features [N, D]"
        )
    if isinstance(images, np.ndarray):
        raise InputError(f"{name} images must be a tensor [N, C, H, W], not an array")
    batches = _split(images) if isinstance(images, Tensor) else images
    for batch, features, probabilities in extract(batches, extractor):
        yield batch.ids.cpu().numpy(), features, probabilities


def _are_features(images: Images) -> TypeGuard[Tensor | Array]:
    return isinstance(images, Tensor | np.ndarray) and images.ndim == 2


def _split(images: Tensor) -> Iterator[Samples]:
    places = torch.arange(len(images))
    for part, ids in zip(images.split(BATCH_SIZE), places.split(BATCH_SIZE), strict=True):
        yield Samples(part, None, ids)


def _result(
    side: _Side,
    reference: Reference,
    extractor: FeatureExtractor | None,
    num_neighbors: int,
    seed: int,
) -> dict[str, Any]:
    count, dim = side.features.shape
    splits = min(NUM_SPLITS, count)
    inputs: dict[str, dict[str, Any] | None] = dict.fromkeys(
        ("moments", "features", "neighbors", "probabilities")
    )
    inputs["moments"] = {"generated": side.moments, "reference": reference.moments}
    if side.probabilities is not None:
        draw = {"num_splits": splits, "seed": seed}
        inputs["probabilities"] = {"probabilities": side.probabilities, **draw}
    if reference.features is not None:
        both = {"generated": side.features, "reference": reference.features}
        fewest = min(map(len, both.values()))
        if fewest >= 2:
            draw = {"subset_size": SUBSET_SIZE, "num_subsets": NUM_SUBSETS, "seed": seed}
            inputs["features"] = {**both, **draw}
        if fewest > num_neighbors:
            inputs["neighbors"] = {**both, "num_neighbors": num_neighbors}
    values: dict[str, float | None] = {}
    for metric in METRICS:
        arguments = inputs[metric.needs]
        if metric.key in values:
            continue  # another metric of the same formula gave it
        if arguments is None:
            values |= dict.fromkeys(filter(None, (metric.key, metric.std_key)))
            continue
        found = getattr(formulas, metric.formula)(**arguments)
        values |= found if isinstance(found, dict) else {metric.key: found}
    return {
        "feature_extractor": extractor.name if extractor else None,
        "feature_extractor_sha256": extractor.sha256 if extractor else None,
        "num_images": count,
        "reference": reference.source,
        "num_reference_images": reference.num_images,
        "num_reference_features": None if reference.features is None else len(reference.features),
        "num_neighbors": num_neighbors,
        **values,
        "settings": {
            "kid_subset_size": SUBSET_SIZE,
            "kid_num_subsets": NUM_SUBSETS,
            "inception_score_splits": splits,
            "seed": seed,
        },
        "warnings": _warnings(count, dim, reference, extractor, num_neighbors),
    }


def _warnings(
    count: int,
    dim: int,
    reference: Reference,
    extractor: FeatureExtractor | None,
    num_neighbors: int,
) -> list[str]:
    """Say what makes the numbers doubtful or missing."""
    notes = []
    for side, images in (("generated", count), ("reference", reference.num_images)):
        if images is not None and images < 10 * dim:
            notes.append(
                f"{images} {side} images for {dim} feature dimensions: the covariance is poorly "
                "determined and the FID too high; prefer the KID, or FIDs of equal numbers"
            )
    if extractor is not None and reference.extractor_sha256 is None:
        notes.append("the reference names no feature extractor; it is taken to be this one")
    if reference.features is None:
        notes.append("the reference holds no features: no KID, precision, recall or the like")
    elif min(count, len(reference.features)) <= num_neighbors:
        notes.append(f"too few images for {num_neighbors} neighbors: no precision or recall")
    return notes
