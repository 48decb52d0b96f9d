"""Measure a table: every row on every range of seeds with every feature extractor."""

from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from burnish.errors import unknown
from burnish.files import provenance
from burnish.generators.load import load_generator
from burnish.schema import plain
from burnish.studies.cache import Cache
from burnish.studies.summary import agreement, summary
from burnish.studies.tables import Tables, expand

__all__ = ["measure"]


def measure(tables: Tables, name: str, cache: Cache, real: Path | None = None) -> dict[str, Any]:
    """Measure a table. What the cache holds already is not computed again.

    Args:
        tables: Of a data set, see :func:`burnish.studies.tables.load_tables`.
        name: Of the table.
        cache: Makes and scores the images.
        real: Real images; None takes the statistics that ship with the feature extractors.

    Returns:
        A dict for JSON: ``rows`` with resolved settings, the single ``results``, each with the
        ``fid_baseline`` of the same images as the generator made them, ``summary`` and
        ``rank_correlation``.

    Raises:
        InputError: There is no such table, or a model, setting or reference is missing.
    """
    if name not in tables.tables:
        raise unknown("table", name, tables.tables)
    table = tables.tables[name]
    rows = expand(table.rows)
    # Missing models and wrong settings are found before any work is done.
    for generator, num_steps in {(row.generator, row.num_steps) for row in rows.values()}:
        load_generator(cache.path(generator), num_steps)
    settings = {label: cache.settings(row) for label, row in rows.items()}
    scorers = {
        features: cache.scorer(source, real, tables.reference)
        for features, source in tables.features.items()
    }
    results: list[dict[str, Any]] = []
    with tqdm(total=len(tables.seeds) * len(rows), desc=name, unit="row") as bar:
        for seeds, (label, row) in product(tables.seeds, rows.items()):
            bar.set_postfix_str(f"{seeds}: {label}")
            for features, scorer in scorers.items():
                before = cache.score(row.unchanged(), seeds, scorer)["fid"]
                place = {"row": label, "seeds": seeds, "features": features}
                scores = cache.score(row, seeds, scorer)
                results.append({**place, "fid_baseline": before, **scores})
            bar.update()
    return {
        "data": tables.data,
        "table": name,
        "place": list(tables.tables).index(name),
        "title": table.title or name,
        "note": table.note,
        "precision": cache.precision,
        "rows": {
            label: {**plain(row), "settings": plain(settings[label])}
            for label, row in rows.items()
        },
        "summary": summary(results),
        "rank_correlation": agreement(results),
        "results": results,
        **provenance(),
    }
