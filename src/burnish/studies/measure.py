"""Measure a table: every row on every range of seeds with every feature extractor."""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

from burnish.errors import unknown
from burnish.files import provenance
from burnish.generators.load import load_generator
from burnish.metrics.metric import METRICS
from burnish.metrics.ranks import rank_correlation
from burnish.progress import bar
from burnish.schema import plain
from burnish.studies.cache import Cache
from burnish.studies.tables import Tables, expand

KEYS = tuple(metric.key for metric in METRICS)


def measure(tables: Tables, name: str, cache: Cache, real: Path | None = None) -> dict[str, Any]:
    """Measure a table. What the cache holds already is not computed again.

    Without ``real`` images, the statistics that ship with the feature extractors are taken.

    Returns:
        A dict for JSON: ``rows`` with resolved settings, the single ``results``, each with the
        ``fid_baseline`` of the same images as generated, their :func:`summary` and, as
        ``rank_correlation``, their :func:`agreement`.
    """
    if name not in tables.tables:
        raise unknown("table", name, tables.tables)
    table = tables.tables[name]
    rows = expand(table.rows)
    # Missing models and wrong settings are found before any work is done.
    for generator, num_steps in {(row.generator, row.num_steps) for row in rows.values()}:
        load_generator(cache.path(generator), num_steps)
    described = {
        label: {**plain(row), "settings": plain(cache.settings(row))}
        for label, row in rows.items()
    }
    scorers = {
        features: cache.scorer(source, real, tables.reference)
        for features, source in tables.features.items()
    }
    results: list[dict[str, Any]] = []
    points = list(product(tables.seeds, rows.items(), scorers.items()))
    for seeds, (label, row), (features, scorer) in bar(points, name):
        before = cache.score(row.unchanged(), seeds, scorer)["fid"]
        scores = cache.score(row, seeds, scorer)
        place: dict[str, Any] = {"row": label, "seeds": seeds, "features": features}
        place["fid_difference"] = cache.change(row, seeds, scorer)
        results.append({**place, "fid_baseline": before, **scores})
    return {
        "data": tables.data,
        "table": name,
        "place": list(tables.tables).index(name),
        "title": table.title or name,
        "note": table.note,
        "precision": cache.precision,
        "rows": described,
        "summary": summary(results),
        "rank_correlation": agreement(results),
        "results": results,
        **provenance(),
    }


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``features -> row -> metric -> {mean, std}`` over the ranges of seeds.

    Besides the metrics there are ``fid_baseline``, ``nfe`` of the guide per image and
    ``fid_change``, FID / fid_baseline - 1, range by range. ``std`` is the sample standard
    deviation, 0 for one range. Missing values are left out. Of ``fid_difference``, the mean paired
    difference, it is the standard error, from the images of all ranges.
    """
    found: dict[str, dict[str, Any]] = {}
    for features, row in dict.fromkeys((r["features"], r["row"]) for r in results):
        mine = [r for r in results if (r["features"], r["row"]) == (features, row)]
        values = {key: [r.get(key) for r in mine] for key in (*KEYS, "fid_baseline", "nfe")}
        values["fid_change"] = [
            r["fid"] / r["fid_baseline"] - 1 for r in mine if r.get("fid_baseline")
        ]
        known = {key: [v for v in given if v is not None] for key, given in values.items()}
        one = {k: _mean_and_std(v) for k, v in known.items() if v}
        changes = [r["fid_difference"] for r in mine if r.get("fid_difference")]
        if len(changes) == len(mine):
            error = math.hypot(*(change["std_error"] for change in changes)) / len(mine)
            mean = statistics.mean(change["difference"] for change in changes)
            one["fid_difference"] = {"mean": mean, "std": error}
        found.setdefault(features, {})[row] = one
    return found


def agreement(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return ``"features, features" -> metric -> {mean, std}`` of Spearman's rho over the rows.

    It is computed for each range of seeds. Where there is no order, it is left out.
    """
    extractors = list(dict.fromkeys(result["features"] for result in results))
    ranges = list(dict.fromkeys(result["seeds"] for result in results))
    found: dict[str, dict[str, Any]] = {}
    for (one, two), key in product(combinations(extractors, 2), KEYS):
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
