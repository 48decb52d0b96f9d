"""The page: one HTML file that holds results, galleries and charts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.errors import InputError
from burnish.files import write_text
from burnish.report.charts import Chart, realness_chart, run_charts, steps_chart
from burnish.report.controls import shares_table
from burnish.report.gallery import galleries
from burnish.report.inputs import Source, read_sources
from burnish.report.tables import features_table, headline, overview
from burnish.report.text import render

# Shown in the tables, or as settings.
NOT_PROVENANCE = {"refine", "warnings", "num_neighbors", "note"}


def write_report(results: Sequence[Path], out: Path) -> Path:
    """Write one HTML page about results and return its path.

    It needs no network, no scripts and no other file.

    Args:
        results: Result files of evaluate, explain or tune, refined samples that have a card,
            folders of a demo, folders of training runs, or files of images two by two, before and
            after; shown in this order.
        out: The page; an existing file is replaced.
    """
    out = Path(out)
    if not results:
        raise InputError("nothing to report on; give result files or folders")
    if out.is_dir():
        raise InputError(f"{out}: a folder; give the name of a file, such as report.html")
    sources = read_sources([Path(path) for path in results])
    several = sum(bool(source.scores) for source in sources) > 1
    text = render(
        "page.html.j2",
        sections=[_section(source) for source in sources],
        overview=overview(sources) if several else None,
    )
    try:
        write_text(out, text)
    except OSError as error:
        raise InputError(f"{out}: cannot be written there ({error})") from error
    return out


def _section(source: Source) -> dict[str, Any]:
    """Return what the page shows of a source; parts that it lacks stay empty."""
    said, lead = headline(source)
    settings = source.facts.get("refine") or source.card.get("settings") or source.config
    provenance = {k: v for k, v in source.facts.items() if k not in NOT_PROVENANCE}
    extractors = [
        (f"{scores.features}: {key}", str(scores.sides["baseline"].get(key)))
        for scores in source.scores
        if "baseline" in scores.sides
        for key in ("feature_extractor_sha256", "reference")
    ]
    return {
        "name": source.name,
        "headline": said,
        "lead": lead,
        "note": source.facts.get("note"),
        "tables": [features_table(scores) for scores in source.scores],
        "controls": shares_table(source.controls) if source.controls else None,
        "galleries": galleries(source.pair) if source.pair else None,
        "charts": [*_ledger_charts(source), *run_charts(source.log)],
        "settings": list(_flatten(settings)),
        "provenance": [*_flatten(provenance), *extractors],
        "card": list(_flatten({k: v for k, v in source.card.items() if k != "settings"})),
    }


def _ledger_charts(source: Source) -> list[Chart]:
    ledger = source.pair.ledger if source.pair else None
    if ledger is None or not len(ledger["id"]):
        return []
    guide = source.card.get("guide")
    real = guide.get("realness") if isinstance(guide, Mapping) else None
    quantiles = real.get("quantiles") if isinstance(real, Mapping) else None
    settings = source.card.get("settings") or source.facts.get("refine") or {}
    threshold, share = source.card.get("threshold"), settings.get("stop_quantile")
    if threshold is None and share is not None and quantiles:
        threshold = float(np.interp(share, np.linspace(0, 1, len(quantiles)), quantiles))
    return [
        realness_chart(ledger["realness_before"], ledger["realness_after"], quantiles, threshold),
        steps_chart(ledger["num_steps"], ledger["stopped"]),
    ]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names and texts; of long lists, the length alone."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and len(value) > 8:
            yield f"{prefix}{key}", f"{len(value)} values"
        else:
            yield f"{prefix}{key}", "none" if value is None or value == {} else str(value)
