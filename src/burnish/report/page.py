"""The page: one HTML file that holds results, galleries and charts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.report.charts import Chart, realness_chart, run_charts, steps_chart
from burnish.report.gallery import Galleries, data_uri, galleries
from burnish.report.inputs import Source, read_source
from burnish.report.rounding import flatten
from burnish.report.tables import (
    FeaturesTable,
    features_table,
    headline,
    overview,
    refinement_headline,
    second_opinion,
)

__all__ = ["write_report"]

# Shown in the tables, or as settings.
NOT_PROVENANCE = {"refine", "warnings", "num_neighbors"}


@dataclass(frozen=True)
class Section:
    """One source as the template needs it."""

    name: str
    headline: str
    lead: str
    """What the headline must not be read without."""
    tables: list[FeaturesTable]
    galleries: Galleries | None
    charts: list[Chart]
    settings: list[tuple[str, str]]
    provenance: list[tuple[str, str]]
    card: list[tuple[str, str]]


def write_report(results: Sequence[Path], out: Path) -> Path:
    """Write one HTML page about results; it needs no network, no scripts and no other file.

    Args:
        results: Result files, refined samples that have a card, folders of a demo, or folders of
            training runs; shown in this order.
        out: The page; an existing file is replaced.

    Returns:
        The path written.

    Raises:
        InputError: One of the results is none of these, or the page cannot be written.
    """
    out = Path(out)
    if not results:
        raise InputError("nothing to report on; give result files or folders")
    if out.is_dir():
        raise InputError(f"{out}: a folder; give the name of a file, such as report.html")
    sources = [read_source(Path(path)) for path in results]
    environment = Environment(
        loader=PackageLoader("burnish.report", ""),
        autoescape=True,  # must be said: the suffix .j2 does not imply it
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["uri"] = data_uri
    text = environment.get_template("page.html.j2").render(
        sections=[_section(source) for source in sources],
        overview=overview(sources) if sum(map(bool, (s.scores for s in sources))) > 1 else None,
    )
    try:
        with write_aside(out) as aside:
            aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: cannot be written there ({error})") from error
    return out


def _section(source: Source) -> Section:
    """Return what the page shows of a source; parts that it lacks stay empty."""
    if source.scores:
        said = headline(source.scores[0]), second_opinion(source.scores)
    elif source.log:
        said = _run_headline(source.log)
    else:
        assert source.pair is not None
        said = refinement_headline(source.card, source.pair)
    settings = source.facts.get("refine") or source.card.get("settings") or source.config
    provenance = {k: v for k, v in source.facts.items() if k not in NOT_PROVENANCE}
    return Section(
        name=source.name,
        headline=said[0],
        lead=said[1],
        tables=[features_table(scores) for scores in source.scores],
        galleries=galleries(source.pair) if source.pair else None,
        charts=[*_ledger_charts(source), *run_charts(source.log)],
        settings=list(flatten(settings)),
        provenance=[*flatten(provenance), *_extractors(source)],
        card=list(flatten({k: v for k, v in source.card.items() if k != "settings"})),
    )


def _extractors(source: Source) -> list[tuple[str, str]]:
    """Return what identifies the feature extractors of a comparison."""
    return [
        (f"{scores.features}: {key}", str(scores.sides["baseline"].get(key)))
        for scores in source.scores
        if "baseline" in scores.sides
        for key in ("feature_extractor_sha256", "reference")
    ]


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


def _run_headline(log: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return how far a training run is logged, and its best checkpoint."""
    said = f"A training run, logged up to step {log[-1]['step']:,}."
    scores = [(row.get("validation/score"), row["step"]) for row in log]
    scores = [(s, n) for s, n in scores if isinstance(s, int | float) and math.isfinite(s)]
    if not scores:
        return said, ""
    score, step = max(scores, key=lambda pair: pair[0])
    return said, f"Best validation score: {score:.4f} at step {step:,}."
