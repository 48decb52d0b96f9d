"""What the numbers say: the headline, the table of each feature extractor, and the overview."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.metrics.metric import DASH, METRICS, metric, rounded
from burnish.report.controls import reading
from burnish.report.inputs import Scores, Source
from burnish.report.text import (
    change_of,
    count,
    counted,
    interval_text,
    minus,
    number,
    percent,
)

FID = metric("fid")
TUNED = {
    "use": "Tuning found settings that help these images.",
    "leave": "Tuning says: leave these images as they are.",
    "disagree": "Tuning recommends nothing: the feature extractors disagree.",
}


def headline(source: Source) -> tuple[str, str]:
    """Return a sentence about a source, and one that it must not be read without, or ""."""
    if source.scores:
        return _fid_sentence(source.scores[0]), _second_opinion(source.scores)
    if source.log:
        said = f"A training run, logged up to step {source.log[-1]['step']:,}."
        scores = [(row.get("validation/score"), row["step"]) for row in source.log]
        scores = [(s, n) for s, n in scores if isinstance(s, int | float) and math.isfinite(s)]
        if not scores:
            return said, ""
        score, step = max(scores, key=lambda pair: pair[0])
        return said, f"Best validation score: {score:.4f} at step {step:,}."
    if "words" in source.facts:  # of tune or explain
        line = reading(source.controls) if source.controls else source.facts["words"] or ""
        verdict = source.facts.get("verdict")
        return (TUNED.get(verdict, f"Tuning says: {verdict}."), line) if verdict else (line, "")
    pair = source.pair
    assert pair is not None
    if not source.card:
        return f"{counted(len(pair), 'pair')} of images, before and after.", ""
    said = (
        f"{counted(len(pair), 'image')} refined by {_name(source.card.get('guide', 'a guide'))}."
    )
    if pair.ledger is None or not len(pair.ledger["id"]):
        return said, ""
    before, after = (
        minus(f"{np.median(pair.ledger[f'realness_{when}']):.2f}") for when in ("before", "after")
    )
    steps = pair.ledger["num_steps"].mean()
    return said, f"Median realness goes from {before} to {after}; {steps:.1f} steps per image."


def _fid_sentence(scores: Scores) -> str:
    by = f"with features of {scores.features}."
    if "generated" in scores.sides:
        return f"The FID is {number(FID, scores.sides['generated']['fid'])}, {by}"
    before, after = (number(FID, fid) for fid in scores.fids)
    known = scores.change("fid")
    verdict, relative = change_of(FID, *scores.fids, known)[1], percent(*scores.fids)
    amount = "" if relative is None else f", by {rounded(abs(relative), 1)}%"
    return {
        "": "The FIDs of baseline and refined images are not both known, ",
        "same": f"Refinement leaves the FID at {before}, ",
        "better": f"Refinement lowers the FID from {before} to {after}{amount}, ",
        "unclear": f"The FID goes from {before} to {after}, which is not significant (95 % "
        f"interval of the difference {interval_text(FID, scores.fids[1] or 0, known)}), ",
        "worse": f"Refinement raises the FID, which is worse, from {before} to {after}{amount}, ",
    }[verdict] + by


def _second_opinion(scores: Sequence[Scores]) -> str:
    verdicts = [change_of(FID, *one.fids, one.change("fid"))[1] for one in scores]
    if len(scores) < 2 or not all(verdicts):
        return ""
    before, after = (number(FID, fid) for fid in scores[1].fids)
    relative = percent(*scores[1].fids)
    shift = "" if relative is None else minus(f" ({rounded(relative, 1, '+')}%)")
    agrees = "agrees" if verdicts[0] == verdicts[1] else "does not agree"
    return (
        f"A second feature extractor, {scores[1].features}, {agrees}: "
        f"the FID goes from {before} to {after}{shift}."
    )


def features_table(scores: Scores) -> dict[str, Any]:
    """Return the metrics by one feature extractor, as the template of the page needs them.

    A row holds a text per side; its change and verdict are empty if there is one side only.
    """
    sides, rows = list(scores.sides.values()), []
    for one in METRICS:
        values = [side.get(one.key) for side in sides]
        if all(value is None for value in values):
            continue
        texts = []
        for side, value in zip(sides, values, strict=True):
            std = side.get(one.std_key) if one.std_key and value is not None else None
            texts.append(number(one, value) + ("" if std is None else f" ± {rounded(std, 2)}"))
        row: dict[str, Any] = {"metric": one, "texts": texts, "change": "", "verdict": ""}
        if len(values) == 2:
            known = scores.change(one.key)
            row["change"], row["verdict"] = change_of(one, values[0], values[1], known)
            row["interval"] = interval_text(one, values[1] or 0, known)
        rows.append(row)
    counts = dict.fromkeys(count(side.get("num_images")) for side in sides)
    warnings = [note for side in sides for note in side.get("warnings") or []]
    if len(counts) > 1:
        warnings.append("baseline and refined differ in their number of images; this changes FIDs")
    num_real, num_neighbors = map(sides[0].get, ("num_reference_images", "num_neighbors"))
    basis = f"{' and '.join(counts)} images"
    basis += "" if num_real is None else f" against {count(num_real)} reference images"
    basis += "" if num_neighbors is None else f"; num_neighbors {num_neighbors}"
    return {
        "features": scores.features, "basis": basis, "sides": list(scores.sides), "rows": rows,
        "is_paired": bool(scores.changes),
        "warnings": list(dict.fromkeys(warnings)),
    }  # fmt: skip


def overview(sources: Sequence[Source]) -> list[list[str]]:
    """Return headings and all results, a row of texts per feature extractor and set of images.

    Columns that no result fills are left out. A refined row carries the change of its FID.
    """
    fixed = ["Images", "Features", "Number", "Neighbors"]
    rows: list[list[str]] = []
    for source in sources:
        for scores in source.scores:
            for side, found in scores.sides.items():
                row = [
                    _images_name(source, side),
                    scores.features,
                    count(found.get("num_images")),
                    str(found.get("num_neighbors") or DASH),
                    *(number(one, found.get(one.key)) for one in METRICS),
                ]
                change = percent(*scores.fids) if side == "refined" else None
                if change is not None:
                    row[len(fixed)] += minus(f" ({rounded(change, 1, '+')}%)")
                rows.append(row)
    headings = [*fixed, *(one.heading for one in METRICS)]
    filled = [i for i in range(len(headings)) if any(row[i] != DASH for row in rows)]
    return [[row[i] for i in filled] for row in (headings, *rows)]


def _images_name(source: Source, side: str) -> str:
    facts = source.facts
    if side == "generated":
        return str(facts.get("generated") or source.name)
    generator = _name(facts.get("generator", source.name))
    if side == "baseline":
        return generator
    return f"{generator}, refined by {_name(facts.get('guide', 'a guide'))}"


def _name(value: Any) -> str:
    """Return the name of a guide or generator, given as such or as its card."""
    return str(value.get("name", "unnamed") if isinstance(value, Mapping) else value)
