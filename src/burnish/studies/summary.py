"""What a table's single results come to: means and spreads, and whether its judges agree."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from burnish.metrics.ranks import rank_correlation

__all__ = ["METRICS", "agreement", "summary"]

METRICS = ("fid", "kid", "inception_score", "precision", "recall")


def summary(results: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``judge -> row -> metric -> {mean, std}`` over the ranges of seeds.

    Besides the metrics there are ``fid_base``, of the same images as they are; ``fid_change``, FID
    / fid_base - 1 range by range; and ``guide_steps`` per image. ``std`` is the sample standard
    deviation, 0 for one range. What was not to be had is left out.
    """
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for result in results:
        found = {key: result.get(key) for key in (*METRICS, "fid_base", "guide_steps")}
        if result.get("fid_base"):
            found["fid_change"] = result["fid"] / result["fid_base"] - 1
        row = values.setdefault(result["judge"], {}).setdefault(result["row"], {})
        for key, value in found.items():
            if value is not None:
                row.setdefault(key, []).append(value)
    return {
        judge: {row: {key: _spread(v) for key, v in found.items()} for row, found in rows.items()}
        for judge, rows in values.items()
    }


def agreement(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return ``"judge, judge" -> metric -> {mean, std}`` of Spearman's rho over the rows.

    It is computed range by range of seeds; where there is no order, it is left out.
    """
    judges = list(dict.fromkeys(result["judge"] for result in results))
    spans = list(dict.fromkeys(result["seeds"] for result in results))
    found: dict[str, dict[str, Any]] = {}
    for one, two in combinations(judges, 2):
        for metric in METRICS:
            rhos = []
            for span in spans:
                here = [result for result in results if result["seeds"] == span]
                first, second = (
                    [result[metric] for result in here if result["judge"] == judge]
                    for judge in (one, two)
                )
                if None not in first + second:
                    rhos.append(rank_correlation(first, second))
            if rhos and None not in rhos:
                found.setdefault(f"{one}, {two}", {})[metric] = _spread(rhos)
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "std": std}
