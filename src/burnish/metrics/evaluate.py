"""All metrics of generated images or their features, in one pass."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.errors import InputError, shown
from burnish.hub import find, shipped
from burnish.metrics import formulas
from burnish.metrics.draws import kept
from burnish.metrics.estimates import estimate
from burnish.metrics.extraction import Extracted, extract, joined
from burnish.metrics.features import FeatureExtractor, load_extractor
from burnish.metrics.fingerprint import fingerprint, make_card
from burnish.metrics.intervals import Estimate
from burnish.metrics.metric import METRICS
from burnish.metrics.moments import Array, moments_of
from burnish.metrics.neighbors import neighborhoods
from burnish.metrics.notes import notes
from burnish.metrics.protocol import NEIGHBORS, Protocol
from burnish.metrics.protocol import protocol as find_protocol
from burnish.metrics.reference import Reference, reference_of
from burnish.samples import Samples
from burnish.schema import Range, read

Images = Tensor | Array | Iterable[Samples]

BATCH_SIZE = 250


def evaluate(
    generated: Images,
    reference: Images | Reference | str | Path,
    features: FeatureExtractor | str | None = None,
    *,
    protocol: Protocol | str = "burnish",
    num_neighbors: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Return all metrics of generated images at full precision, with what identifies them.

    The metrics are those of :data:`burnish.metrics.metric.METRICS`. Images are rounded to uint8,
    as they are when saved. By the default protocol rows are ordered by their ids before anything
    is drawn at random, so neither the size nor the order of batches changes a number.

    Args:
        generated: Images ``[N, C, H, W]`` in [0, 1], batches of Samples, or features ``[N, D]``.
        reference: The same of real images, a :class:`Reference`, or the name or path of one, e.g.
            ``"cifar10/plain"``. By the default protocol 10,000 rows of features are kept at most.
        features: Makes features of images; an extractor or its name. None if both sides are
            features, if the reference names a shipped extractor, or for that of the protocol.
        protocol: Whose numbers: ``"burnish"``, or one of
            :data:`burnish.metrics.protocol.PROTOCOLS`, e.g. ``"adm"``.
        num_neighbors: k of precision, recall, density and coverage, at least 1; None for the
            protocol's, 3.
        seed: Seed of the subsets of the KID and of the shuffle of the Inception Score; None for
            the protocol's.

    Returns:
        A dict for JSON. A metric that cannot be computed, or is not of the protocol, is None, and
        ``warnings`` says why.

    Raises:
        InputError: There are fewer than two images on a side, features are missing, NaN or of
            different sizes, or the reference was made with another extractor.
    """
    how = find_protocol(protocol)
    if num_neighbors is not None:
        read(Annotated[int, Range(1, 1e6)], num_neighbors, "num_neighbors")
    if seed is not None:
        read(Annotated[int, Range(0)], seed, "seed")
    if not callable(features) and not isinstance(features, str | None):
        raise InputError(f"features must be an extractor or its name, not {shown(features)}")
    for side, given in (("generated", generated), ("reference", reference)):
        if not isinstance(given, Iterable | Reference | Path):
            raise InputError(f"{side} images must be a tensor, not {shown(given)}")
    if features is None and not _are_features(generated):
        if isinstance(reference, str) and reference in shipped("features"):
            features = reference
        elif how.name != "burnish":
            features = how.extractor
    if isinstance(features, str):
        device = generated.device if isinstance(generated, Tensor) else "cpu"
        features = load_extractor(features, device)
    real = _reference(reference, features, how)
    found = _features("generated", generated, features, how, real)
    return compare(
        found.features, found.probabilities, real, features, protocol=how,
        num_neighbors=num_neighbors, seed=seed, spatial=found.spatial, labels=found.labels,
    )  # fmt: skip


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
    labels: NDArray[Any] | None = None,
    validation: Reference | None = None,
    extrapolate: bool = False,
    influences: dict[str, Estimate] | None = None,
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
        labels: ``[N]`` of the same images, for the accuracy.
        validation: Other real images, for the FDr.
        extrapolate: Whether to give the ``fid_infinity``.
        influences: Filled with what the differences to other results are paired by.

    Raises:
        InputError: There are fewer than two images on a side, or the features do not fit.
    """
    how = find_protocol(protocol)
    neighbors = asdict(how.neighbors)
    neighbors["num_neighbors"] = k = num_neighbors or how.neighbors.num_neighbors
    seed = how.seed if seed is None else seed
    if (size := rows.shape[1]) != real.moments.mu.size:
        raise InputError(f"generated {size} and reference {real.moments.mu.size} differ in D")
    chosen = kept(how, len(rows), seed)
    rows = rows[chosen]
    if validation is not None:
        validation.check_validation(real, rows)
    rest = (None if one is None else one[chosen] for one in (probabilities, spatial, labels))
    probabilities, spatial, labels = rest
    inputs: dict[str, dict[str, Any]] = {
        "moments": {"generated": moments_of(rows, how.mean), "reference": real.moments}
    }
    scores = asdict(how.scores) | {"seed": seed}
    scores["num_splits"] = min(scores["num_splits"], len(rows))
    near, num_real = None, None if real.features is None else len(real.features)
    if probabilities is not None:
        inputs["probabilities"] = {"probabilities": probabilities, **scores}
    if spatial is not None and real.spatial is not None and how.spatial:
        both = {"generated": moments_of(spatial, how.mean), "reference": real.spatial}
        inputs["spatial"] = both
    if num_real is not None:
        both = {"generated": rows, "reference": real.features}
        if num_real >= 2:
            inputs["features"] = {**both, **asdict(how.subsets), "seed": seed}
        if min(len(rows), num_real) > k and {*NEIGHBORS} & {*how.metrics}:
            near = neighborhoods(**both, **neighbors)
            inputs["neighbors"] = {"near": near, "num_neighbors": k}
    keys = (key for metric in METRICS for key in (metric.key, metric.std_key) if key)
    values: dict[str, float | None] = dict.fromkeys(keys)
    for metric in METRICS:
        # If it is known, another metric of the same formula gave it.
        wanted = metric.key in how.metrics and values[metric.key] is None
        if wanted and metric.needs in inputs:
            found = getattr(formulas, metric.formula)(**inputs[metric.needs])
            found = found if isinstance(found, dict) else {metric.key: found}
            values |= {key: found[key] for key in found if key in values}
    for metric in METRICS:
        if metric.key not in how.metrics:
            values |= {key: None for key in (metric.key, metric.std_key) if key}
    found = estimate(
        rows, real, features, how, k, probabilities=probabilities, labels=labels, spatial=spatial,
        validation=validation, extrapolate=extrapolate, values=values, near=near,
    )  # fmt: skip
    if influences is not None:
        influences |= found
    settings = {
        "kid_subset_size": how.subsets.subset_size,
        "kid_num_subsets": how.subsets.num_subsets,
        "inception_score_splits": scores["num_splits"],
        "seed": seed,
    }
    card = make_card(features, real, len(rows), k, how, settings, validation)
    return {
        "feature_extractor": features.name if features else None,
        "feature_extractor_sha256": features.sha256 if features else None,
        "num_images": len(rows),
        "reference": real.source,
        "num_reference_images": real.num_images,
        "num_reference_features": num_real,
        "num_neighbors": k,
        "protocol": how.name,
        **values,
        "intervals": {m.key: found[m.key].interval(*m.range) for m in METRICS if m.key in found},
        "settings": settings,
        "fingerprint": fingerprint(card),
        "card": card,
        "warnings": notes(rows, probabilities, real, features, how, k, values, validation, found),
    }


def _reference(
    reference: Images | Reference | str | Path, extractor: FeatureExtractor | None, how: Protocol
) -> Reference:
    if isinstance(reference, str | Path):
        reference = Reference.load(find("reference", str(reference)), extractor=extractor)
    if isinstance(reference, Reference):
        if extractor is not None:
            reference.check(extractor)
        return reference
    found = _features("reference", reference, extractor, how)
    return reference_of(
        [(found.features, found.spatial)], extractor, source="given",
        num_images=len(found.features), max_features=how.max_features, protocol=how,
    )  # fmt: skip


def _features(
    side: str, images: Images, extractor: FeatureExtractor | None, how: Protocol,
    real: Reference | None = None,
) -> Extracted:  # fmt: skip
    """Return what the extractor makes of images, in the order of the protocol."""
    if _are_features(images):
        rows = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
        if rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
            raise InputError(f"{side} features must be numbers, without NaN and infinity")
        found = [Extracted(np.arange(len(rows)), rows, None, None)]
    elif extractor is None:
        raise InputError(f"the {side} images need a feature extractor; name one, or give features")
    elif isinstance(images, np.ndarray):
        raise InputError(f"{side} images must be a tensor [N, C, H, W], not an array")
    else:
        if isinstance(images, Tensor):
            all_of_them = Samples(images, None, torch.arange(len(images)))
            starts = range(0, len(images), BATCH_SIZE)
            images = (all_of_them[i : i + BATCH_SIZE] for i in starts)
        found = list(extract(images, extractor, real, spatial=how.spatial))
    count = sum(len(part.features) for part in found)
    if count < 2:
        raise InputError(f"metrics need at least 2 {side} images, not {count}")
    return joined(found, by_id=not how.stored_order)


def _are_features(images: Images) -> TypeGuard[Tensor | Array]:
    return isinstance(images, Tensor | np.ndarray) and images.ndim == 2
