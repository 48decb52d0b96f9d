"""Summaries of a table's results: means, standard deviations and rank correlations."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from burnish.metrics.metric import METRICS
from burnish.metrics.ranks import rank_correlation

__all__ = ["agreement", "summary"]

KEYS = tuple(metric.key for metric in METRICS)


def summary(results: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``features -> row -> metric -> {mean, std}`` over the ranges of seeds.

    Besides the metrics there are ``fid_baseline``, of the same images as the generator made them;
    ``fid_change``, FID / fid_baseline - 1, range by range; and ``nfe`` of the guide per image.
    ``std`` is the sample standard deviation, 0 for one range. Missing values are left out.
    """
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for result in results:
        found = {key: result.get(key) for key in (*KEYS, "fid_baseline", "nfe")}
        if result.get("fid_baseline"):
            found["fid_change"] = result["fid"] / result["fid_baseline"] - 1
        row = values.setdefault(result["features"], {}).setdefault(result["row"], {})
        for key, value in found.items():
            if value is not None:
                row.setdefault(key, []).append(value)
    return {
        features: {
            row: {key: _mean_and_std(v) for key, v in found.items()} for row, found in rows.items()
        }
        for features, rows in values.items()
    }


def agreement(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return ``"features, features" -> metric -> {mean, std}`` of Spearman's rho over the rows.

    It is computed for each range of seeds. Where there is no order, it is left out.
    """
    extractors = list(dict.fromkeys(result["features"] for result in results))
    ranges = list(dict.fromkeys(result["seeds"] for result in results))
    found: dict[str, dict[str, Any]] = {}
    for one, two in combinations(extractors, 2):
        for key in KEYS:
            rhos = []
            for seeds in ranges:
                sides: list[list[Any]] = [
                    [r.get(key) for r in results if (r["seeds"], r["features"]) == (seeds, name)]
                    for name in (one, two)
                ]
                if None not in sides[0] + sides[1]:
                    rhos.append(rank_correlation(*sides))
            if rhos and None not in rhos:
                found.setdefault(f"{one}, {two}", {})[key] = _mean_and_std(rhos)
    return found


def _mean_and_std(values: Sequence[float]) -> dict[str, float]:
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "std": std}
