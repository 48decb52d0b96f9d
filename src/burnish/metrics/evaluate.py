"""All metrics of generated images or their features, in one pass."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError, shown
from burnish.hub import find, shipped
from burnish.metrics import formulas
from burnish.metrics.features import FeatureExtractor, FidelityExtractor, load_extractor
from burnish.metrics.metric import METRICS
from burnish.metrics.moments import Array, Moments, MomentSum
from burnish.metrics.protocol import Protocol
from burnish.metrics.protocol import protocol as find_protocol
from burnish.metrics.reference import Reference, extract, kept_rows
from burnish.samples import Samples
from burnish.schema import Range, read

Images = Tensor | Array | Iterable[Samples]

BATCH_SIZE, NUM_SPLITS = 250, 10
SUBSETS = {"subset_size": 1000, "num_subsets": 100}


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
    read(Annotated[int, Range(1, 1e6)], num_neighbors, "num_neighbors")
    read(Annotated[int, Range(0)], seed, "seed")
    if not callable(features) and not isinstance(features, str | None):
        raise InputError(f"features must be an extractor or its name, not {shown(features)}")
    for side, given in (("generated", generated), ("reference", reference)):
        if not isinstance(given, Iterable | Reference | Path):
            raise InputError(f"{side} images must be a tensor, not {shown(given)}")
    if features is None and not _are_features(generated) and isinstance(reference, str):
        features = reference if reference in shipped("features") else None
    if isinstance(features, str):
        device = generated.device if isinstance(generated, Tensor) else "cpu"
        features = load_extractor(features, device)
    real = _reference(reference, features)
    rows, probabilities = _features("generated", generated, features, real)
    return compare(rows, probabilities, real, features, num_neighbors=num_neighbors, seed=seed)


def compare(
    rows: Array,
    probabilities: Array | None,
    real: Reference,
    features: FeatureExtractor | None,
    *,
    protocol: Protocol | str = "burnish",
    num_neighbors: int | None = None,
    seed: int | None = None,
    spatial: Array | None = None,
) -> dict[str, Any]:
    """Return all metrics of features that are known already; see :func:`evaluate`.

    Args:
        rows: Features ``[N, D]`` of generated images, in the order of their ids.
        probabilities: ``[N, K]``; None if the extractor does not classify.
        real: What they are compared with.
        features: What made the features.
        protocol: How to compute; its name, or one of your own.
        num_neighbors: k of precision, recall, density and coverage; None for the protocol's.
        seed: Of the subsets of the KID and of the shuffle of the Inception Score; None for the
            protocol's.
        spatial: Spatial features ``[N, 2023]`` of the same images, for the sFID.

    Raises:
        InputError: There are fewer than two images on a side, or the features do not fit.
    """
    how = find_protocol(protocol) if isinstance(protocol, str) else protocol
    num_neighbors = num_neighbors or how.neighbors.num_neighbors
    seed = how.seed if seed is None else seed
    inputs: dict[str, dict[str, Any]] = {
        "moments": {"generated": _moments(rows), "reference": real.moments}
    }
    draw = {"num_splits": min(NUM_SPLITS, len(rows)), "seed": seed}
    num_real = None if real.features is None else len(real.features)
    if probabilities is not None:
        inputs["probabilities"] = {"probabilities": probabilities, **draw}
    if num_real is not None:
        both = {"generated": rows, "reference": real.features}
        if num_real >= 2:
            inputs["features"] = {**both, **SUBSETS, "seed": seed}
        if min(len(rows), num_real) > num_neighbors:
            inputs["neighbors"] = {**both, "num_neighbors": num_neighbors}
    keys = (key for metric in METRICS for key in (metric.key, metric.std_key) if key)
    values: dict[str, float | None] = dict.fromkeys(keys)
    for metric in METRICS:
        # If it is known, another metric of the same formula gave it.
        if values[metric.key] is None and metric.needs in inputs:
            found = getattr(formulas, metric.formula)(**inputs[metric.needs])
            values |= found if isinstance(found, dict) else {metric.key: found}
    return {
        "feature_extractor": features.name if features else None,
        "feature_extractor_sha256": features.sha256 if features else None,
        "num_images": len(rows),
        "reference": real.source,
        "num_reference_images": real.num_images,
        "num_reference_features": num_real,
        "num_neighbors": num_neighbors,
        "protocol": how.name,
        **values,
        "settings": {
            **{f"kid_{key}": value for key, value in SUBSETS.items()},
            "inception_score_splits": draw["num_splits"],
            "seed": seed,
        },
        "warnings": _warnings(rows, real, features, num_neighbors, probabilities is not None),
    }


def _reference(
    reference: Images | Reference | str | Path, extractor: FeatureExtractor | None
) -> Reference:
    if isinstance(reference, str | Path):
        reference = Reference.load(find("reference", str(reference)), extractor=extractor)
    if isinstance(reference, Reference):
        if extractor is not None:
            reference.check(extractor)
        return reference
    rows, _ = _features("reference", reference, extractor)
    name, sha256 = (extractor.name, extractor.sha256) if extractor else (None, None)
    return Reference(_moments(rows), rows[kept_rows(len(rows))], len(rows), name, sha256, "given")


def _features(
    side: str, images: Images, extractor: FeatureExtractor | None, real: Reference | None = None
) -> tuple[Array, Array | None]:
    """Return features, and probabilities if there are any, in the order of the ids."""
    probabilities = None
    if _are_features(images):
        rows = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
        if rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
            raise InputError(f"{side} features must be numbers, without NaN and infinity")
    elif extractor is None:
        raise InputError(f"the {side} images need a feature extractor; name one, or give features")
    elif isinstance(images, np.ndarray):
        raise InputError(f"{side} images must be a tensor [N, C, H, W], not an array")
    else:
        if isinstance(images, Tensor):
            whole = Samples(images, None, torch.arange(len(images)))
            images = (whole[i : i + BATCH_SIZE] for i in range(0, len(whole), BATCH_SIZE))
        found = list(extract(images, extractor, real))
        if not found:
            raise InputError(f"metrics need at least 2 {side} images, not 0")
        order = np.argsort(np.concatenate([part.ids for part in found]), kind="stable")
        rows = np.concatenate([part.features for part in found])[order]
        if found[0].probabilities is not None:
            probabilities = np.concatenate([part.probabilities for part in found])[order]  # pyright: ignore
    if len(rows) < 2:
        raise InputError(f"metrics need at least 2 {side} images, not {len(rows)}")
    return rows, probabilities


def _are_features(images: Images) -> TypeGuard[Tensor | Array]:
    return isinstance(images, Tensor | np.ndarray) and images.ndim == 2


def _moments(rows: Array) -> Moments:
    total = MomentSum()
    for i in range(0, len(rows), BATCH_SIZE):
        total.add(rows[i : i + BATCH_SIZE])
    return total.moments()


def _warnings(
    rows: Array, reference: Reference, extractor: FeatureExtractor | None, num_neighbors: int,
    has_classes: bool,
) -> list[str]:  # fmt: skip
    """Say what makes the numbers doubtful or missing."""
    notes, (count, dim) = [], rows.shape
    for side, images in (("generated", count), ("reference", reference.num_images)):
        if images is not None and images < 10 * dim:
            notes.append(
                f"{images} {side} images for {dim} feature dimensions: the covariance is poorly "
                "determined and the FID too high; prefer the KID, or FIDs of equal numbers"
            )
    if extractor is not None and reference.extractor_sha256 is None:
        notes.append("the reference names no feature extractor; it is taken to be this one")
    if isinstance(extractor, FidelityExtractor) and not has_classes and extractor.lacks:
        notes.append(extractor.lacks)
    if reference.features is None:
        notes.append("the reference holds no features: no KID, precision, recall or the like")
    elif min(count, len(reference.features)) <= num_neighbors:
        notes.append(f"too few images for {num_neighbors} neighbors: no precision or recall")
    return notes
