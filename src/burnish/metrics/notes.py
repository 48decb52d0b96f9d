"""What a result says of its own numbers: why they are doubtful, or missing."""

from collections.abc import Mapping

import numpy as np

from burnish.metrics.features import FeatureExtractor, FidelityExtractor
from burnish.metrics.intervals import Estimate
from burnish.metrics.metric import metric
from burnish.metrics.moments import Array, Moments, moments_of
from burnish.metrics.overlap import marks_of, num_repeats, shared
from burnish.metrics.protocol import NEIGHBORS, Protocol
from burnish.metrics.reference import Reference


def notes(
    rows: Array, probabilities: Array | None, real: Reference, extractor: FeatureExtractor | None,
    how: Protocol, num_neighbors: int, values: Mapping[str, float | None],
    validation: Reference | None = None, estimates: Mapping[str, Estimate] | None = None,
) -> list[str]:  # fmt: skip
    """Return one line per reason to doubt a number, or for its absence."""
    found, (count, dim) = [], rows.shape
    sides = [("generated", count), ("reference", real.num_images)]
    if validation is not None:
        sides.append(("validation", validation.num_images))
        if validation.num_images not in (None, count):
            found.append(
                f"{validation.num_images} validation and {count} generated images: FIDs of fewer "
                "images are higher, so the FDr compares only equal numbers"
            )
        if values.get("fdr") is None:
            found.append(
                f"no FDr: protocol {how.name} has none, or the validation images are as near to "
                "the reference as its own; name other real images under --validation"
            )
    for side, images in sides:
        if images is not None and images < 10 * dim:
            found.append(
                f"{images} {side} images for {dim} feature dimensions: the covariance is poorly "
                "determined and the FID too high; prefer the KID, or FIDs of equal numbers"
            )
    found += _of_overlap(rows, real, validation)
    flat = [metric(key).title for key, one in (estimates or {}).items() if _is_flat(one)]
    if flat:
        found.append(f"all images act alike on {', '.join(flat)}: these intervals have no width")
    if extractor is not None and real.extractor_sha256 is None:
        found.append("the reference names no feature extractor; it is taken to be this one")
    missing = [key for key in how.metrics if values[key] is None]
    if "inception_score" in missing and isinstance(extractor, FidelityExtractor):
        found += [extractor.lacks] * bool(extractor.lacks)
    if "sfid" in missing:
        found.append(
            "no sFID: it needs Inception, and real images or a reference with mu_s and sigma_s"
        )
    if missing and real.features is None:
        found.append("the reference holds no features: no KID, precision, recall or the like")
    elif set(missing) & set(NEIGHBORS):
        found.append(f"too few images for {num_neighbors} neighbors: no precision or recall")
    return found + _of_protocol(count, probabilities, extractor, how)


def _of_overlap(rows: Array, real: Reference, validation: Reference | None) -> list[str]:
    """Say which images are in two sets, or several times in one."""
    found, own, other = [], marks_of(rows), validation.marks if validation else None
    for images, marks, there, of, then in (
        ("generated", own, real.marks, "reference", "distances are too low, as are "
         "their intervals; name other real images under --reference, unless the generator has "
         "copied these"),
        ("validation", other, real.marks, "reference", "the FDr is too high; name other real "
         "images under --validation"),
        ("validation", other, own, "generated", "the FDr is too near to 1; name real images alone "
         "under --validation"),
    ):  # fmt: skip
        if marks and there and (count := int(shared(marks, there).sum())):
            total = len(marks.slack)
            some = f"{'all' if count == total else f'{count} of'} {total} {images} images are"
            found.append(f"{some} among the {of} images, too: {then}")
    sides = {"generated": moments_of(rows), "reference": real.moments}
    if validation is not None:
        sides["validation"] = validation.moments
    still = [side for side, moments in sides.items() if not _varies(moments)]
    found += [f"the {side} images do not vary: doubt all numbers" for side in still]
    if "generated" not in still and (count := num_repeats(own)):
        found.append(f"{count} of {len(rows)} generated images repeat others: intervals are too "
                     "narrow")  # fmt: skip
    return found


def _is_flat(one: Estimate) -> bool:
    return one.std_error <= max(1e-9 * abs(one.value), 1e-30)


def _varies(moments: Moments) -> bool:
    return float(np.trace(moments.sigma)) > 1e-8 * float(moments.mu @ moments.mu)


def _of_protocol(
    count: int, probabilities: Array | None, extractor: FeatureExtractor | None, how: Protocol
) -> list[str]:
    """Say where a number is not what the tool of a protocol would print."""
    if how.name == "burnish":
        return []
    found = []
    name = extractor.name.removesuffix(":float16") if extractor else how.extractor
    if name not in (how.extractor, *how.other_extractors):
        found.append(f"protocol {how.name} has features of {how.extractor}, not {name}")
    if how.max_images is not None and count < how.max_images:
        found.append(f"protocol {how.name} takes {how.max_images:,} images; here are {count:,}")
    if how.scores.float32 and probabilities is not None and not probabilities.all():
        found.append("some probabilities are 0, where the tool itself would print nan")
    for other in how.other_extractors:
        if name == how.extractor:
            found.append(f"protocol {how.name} also reports a distance by --features {other}")
    return found
