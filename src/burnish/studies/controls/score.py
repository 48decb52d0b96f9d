"""Scores of baseline, refined and control images by several extractors, and shares of the gain."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.metrics.features import FeatureExtractor
from burnish.progress import bar
from burnish.refinement.refiner import check_fit
from burnish.studies.controls.controls import (
    Control,
    class_frequencies,
    pixel_controls,
    rejection,
)
from burnish.studies.controls.shares import share_of
from burnish.studies.dose.drawn import Drawn
from burnish.studies.dose.scorer import Scorer, Scores, Seen, is_independent, look

BATCH_SIZE = 100
SIDES = ("baseline", "refined")


def score(
    sides: Mapping[str, Tensor], real: Tensor, extractors: Sequence[FeatureExtractor], *,
    realness: Tensor | None = None, paired: Collection[str] = (),
    seen: Mapping[str, Seen] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return scores of all sides and controls, and the shares of the gain that they explain.

    Args:
        sides: uint8 images ``[N, C, H, W]``: ``baseline``, ``refined``, and others by name; as
            many of each.
        real: Real images, likewise.
        extractors: What scores; the first that classifies predicts classes.
        realness: ``[N]`` of the baseline images; None for no control that rejects.
        paired: Sides whose image i was made of baseline image i.
        seen: What the extractors see in sides, or in the ``real`` images, where it is known.

    Returns:
        ``scores`` (side or control -> extractor -> fid, kid, precision, recall), ``shares``
        (control or other side -> extractor -> fid, kid -> share, low, high; None where the gain
        is not certain), ``baselines`` (control or other side -> which of ``scores`` it is held
        against: a control of fewer images against as many baseline images, the first ones, as
        distances depend on the number), ``paired`` (side -> whether its image i is compared with
        baseline image i), ``unchanged`` and ``repeated`` (shares of the refined images), and the
        ``extractors``.
    """
    first, controls = sides["baseline"], pixel_controls(sides["baseline"], real)
    changed = {one.name: one.images_uint8 for one in controls if one.images_uint8 is not None}
    seen = dict(seen or {})
    new = {k: v for k, v in {**sides, **changed, "real": real}.items() if k not in seen}
    with bar(None, "controls", sum(map(len, new.values())), unit="image") as shown:
        for name, images in new.items():
            seen[name] = look(images.split(BATCH_SIZE), extractors, shown.update)
    classes = [seen[name].classes for name in SIDES]
    if classes[0] is not None and classes[1] is not None:
        controls.append(class_frequencies(classes[0], classes[1]))
    if realness is not None:
        controls.append(rejection(realness))
    controls += [Control(name) for name in sides if name not in SIDES]
    scores: dict[str, Any] = {}
    shares: dict[str, Any] = {}
    baselines: dict[str, str] = {}
    for extractor in extractors:
        name = extractor.name
        scorer = Scorer(seen["real"].features[name])
        before, after = (scorer(seen[side].features[name]) for side in SIDES)
        for side, found in zip(SIDES, (before, after), strict=True):
            scores.setdefault(side, {})[name] = found.values
        for control in controls:
            rows = None if control.rows is None else control.rows.numpy()
            features = seen["baseline" if rows is not None else control.name].features[name]
            found, start = scorer(features if rows is None else features[rows]), before
            baselines[control.name] = "baseline"
            if rows is not None and len(rows) < len(first):
                start = scorer(seen["baseline"].features[name][: len(rows)])
                baselines[control.name] = called = f"baseline, first {len(rows)}"
                scores.setdefault(called, {})[name] = start.values
            scores.setdefault(control.name, {})[name] = found.values
            apart = control.name in sides and control.name not in paired
            shares.setdefault(control.name, {})[name] = _shares(
                before, after, start, found, paired="refined" in paired, apart=apart, rows=rows
            )
    known = {image.numpy().tobytes() for image in first}
    refined = [image.numpy().tobytes() for image in sides["refined"]]
    return {
        "scores": scores,
        "shares": shares,
        "baselines": baselines,
        "paired": {name: name in paired for name in sides if name != "baseline"},
        "unchanged": float(np.mean([image in known for image in refined])),
        "repeated": 1 - len(set(refined)) / len(refined),
        "extractors": [
            {"name": one.name, "sha256": one.sha256, "independent": is_independent(one)}
            for one in extractors
        ],
    }


def predict(guide: Guide, images: Drawn) -> Tensor:
    """Return the realness ``[N]`` of images by a guide; of its own classes without labels.

    Raises:
        InputError: It takes images of another shape, or has fewer classes.
    """
    try:
        check_fit(guide, next(images.batches(1)), images.labels)
    except InputError as error:
        raise InputError(f"{images.source}: {error}") from error
    found, device = [], next(guide.parameters()).device
    for batch in images.batches(BATCH_SIZE):
        with torch.no_grad():
            logits = guide(batch.images.to(device)).cpu()
        labels = logits.argmax(1) if batch.labels is None else batch.labels
        found.append(guide.realness_of(logits, labels))
    return torch.cat(found)


def _shares(before: Scores, after: Scores, start: Scores, found: Scores, **how: Any) -> dict:
    result = {}
    for key, estimate in found.estimates.items():
        ends = before.estimates[key], after.estimates[key], start.estimates[key]
        share = share_of(*ends, estimate, **how)
        result[key] = share and asdict(share)
    return result
