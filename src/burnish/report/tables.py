"""What the numbers say: the headline, the table of each feature extractor, and the overview."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from burnish.metrics.metric import DASH, METRICS, metric
from burnish.report.inputs import Pair, Scores, Source
from burnish.report.rounding import change_of, count, minus, number, percent

__all__ = [
    "FeaturesTable", "Overview", "features_table", "headline", "overview", "refinement_headline",
    "second_opinion",
]  # fmt: skip

FID = metric("fid")


class Row(NamedTuple):
    """One metric: a text per side; change and verdict are empty if there is one side only."""

    heading: str
    explanation: str
    values: list[str]
    change: str
    verdict: str


@dataclass(frozen=True)
class FeaturesTable:
    """Metrics by one feature extractor."""

    features: str
    basis: str
    """What was compared with what."""
    sides: list[str]
    rows: list[Row]
    warnings: list[str]


class Overview(NamedTuple):
    """Many results in one table of texts."""

    headings: list[str]
    rows: list[list[str]]


def headline(scores: Scores) -> str:
    """Say in one sentence what the FID is, or how refinement changed it."""
    by = f"with features of {scores.features}."
    if "generated" in scores.sides:
        return f"The FID is {number(FID, scores.sides['generated']['fid'])}, {by}"
    before, after = (number(FID, fid) for fid in scores.fids)
    verdict, relative = change_of(FID, *scores.fids)[1], percent(*scores.fids)
    amount = "" if relative is None else f", by {abs(relative):.1f}%"
    return {
        "": "The FIDs of baseline and refined images are not both known, ",
        "same": f"Refinement leaves the FID at {before}, ",
        "better": f"Refinement lowers the FID from {before} to {after}{amount}, ",
        "worse": f"Refinement raises the FID, which is worse, from {before} to {after}{amount}, ",
    }[verdict] + by


def second_opinion(scores: Sequence[Scores]) -> str:
    """Say whether a second feature extractor agrees; empty if there is none."""
    if len(scores) < 2:
        return ""
    first, second = (change_of(FID, *one.fids)[1] for one in scores)
    if not (first and second):
        return ""
    before, after = (number(FID, fid) for fid in scores[1].fids)
    relative = percent(*scores[1].fids)
    shift = "" if relative is None else minus(f" ({relative:+.1f}%)")
    agrees = "agrees" if first == second else "does not agree"
    return (
        f"A second feature extractor, {scores[1].features}, {agrees}: "
        f"the FID goes from {before} to {after}{shift}."
    )


def refinement_headline(card: Mapping[str, Any], pair: Pair) -> tuple[str, str]:
    """Return a sentence about refined images that nothing has scored, and one about the steps."""
    said = f"{len(pair.refined):,} images refined by {name_of(card.get('guide', 'a guide'))}."
    if pair.ledger is None or not len(pair.ledger["id"]):
        return said, ""
    before, after = (
        minus(f"{np.median(pair.ledger[f'realness_{when}']):.2f}") for when in ("before", "after")
    )
    steps = pair.ledger["num_steps"].mean()
    return said, f"Median realness goes from {before} to {after}; {steps:.1f} steps per image."


def features_table(scores: Scores) -> FeaturesTable:
    """Return the metrics by one feature extractor, a column per side."""
    sides, rows = list(scores.sides.values()), []
    for one in METRICS:
        values = [side.get(one.key) for side in sides]
        if any(value is not None for value in values):
            change, verdict = change_of(one, *values) if len(values) == 2 else ("", "")
            texts = [number(one, value) for value in values]
            if one.std_key:
                stds = [side.get(one.std_key) for side in sides]
                texts = [
                    text if std is None or text == DASH else f"{text} ± {std:.2f}"
                    for text, std in zip(texts, stds, strict=True)
                ]
            rows.append(Row(one.heading, one.explanation, texts, change, verdict))
    counts = dict.fromkeys(count(side.get("num_images")) for side in sides)
    warnings = [note for side in sides for note in side.get("warnings") or []]
    if len(counts) > 1:
        warnings.append("baseline and refined differ in their number of images; this changes FIDs")
    basis = f"{' and '.join(counts)} images"
    if sides[0].get("num_reference_images") is not None:
        basis += f" against {count(sides[0]['num_reference_images'])} reference images"
    if sides[0].get("num_neighbors") is not None:
        basis += f"; num_neighbors {sides[0]['num_neighbors']}"
    unique = list(dict.fromkeys(warnings))
    return FeaturesTable(scores.features, basis, list(scores.sides), rows, unique)


def overview(sources: Sequence[Source]) -> Overview:
    """Return all results in one table, a row per feature extractor and set of images.

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
                    row[len(fixed)] += minus(f" ({change:+.1f}%)")
                rows.append(row)
    headings = [*fixed, *(one.heading for one in METRICS)]
    filled = [i for i in range(len(headings)) if any(row[i] != DASH for row in rows)]
    return Overview([headings[i] for i in filled], [[row[i] for i in filled] for row in rows])


def name_of(value: Any) -> str:
    """Return the name of a guide or generator, given as such or as its card."""
    return str(value.get("name", "unnamed") if isinstance(value, Mapping) else value)


def _images_name(source: Source, side: str) -> str:
    facts = source.facts
    if side == "generated":
        return str(facts.get("generated") or source.name)
    generator = name_of(facts.get("generator", source.name))
    if side == "baseline":
        return generator
    return f"{generator}, refined by {name_of(facts.get('guide', 'a guide'))}"
