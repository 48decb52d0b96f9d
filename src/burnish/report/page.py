"""The page: one HTML file with everything in it, made from results, galleries and logs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.report.charts import Chart, realness_chart, run_charts, steps_chart
from burnish.report.gallery import Galleries, data_uri, galleries
from burnish.report.inputs import Source, judges, read_source
from burnish.report.rounding import facts
from burnish.report.tables import JudgeTable, headline, judge_table, overview, second_opinion

__all__ = ["write_report"]

# Shown in tables of their own, or too long to show.
NOT_PROVENANCE = {
    "base", "refined", "second_judge", "refine", "warnings", "fid", "kid", "inception_score",
    "inception_score_std", "precision", "recall", "density", "coverage", "num_neighbors",
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One source as the template wants it."""

    name: str
    headline: str
    lead: str
    """What the headline must not be read without."""
    tables: list[JudgeTable] = field(default_factory=list)
    galleries: Galleries | None = None
    charts: list[Chart] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)
    provenance: list[tuple[str, str]] = field(default_factory=list)
    details: list[tuple[str, str]] = field(default_factory=list)
    """Provenance at length, folded away."""


def write_report(results: Sequence[Path], out: Path) -> Path:
    """Write one HTML page about results; it needs no network, no scripts and no other file.

    Args:
        results: Result files, folders with a ``result.json`` (and images and a ledger), or
            folders of training runs; shown in this order.
        out: Where; a file that exists is replaced.

    Returns:
        The path written.

    Raises:
        InputError: One of the results is none of these, or the page cannot be written there.
    """
    out = Path(out)
    if not results:
        raise InputError("nothing to report on; give result files or folders")
    if out.is_dir():
        raise InputError(f"{out}: a folder; give the name of a file, such as report.html")
    sources = [read_source(Path(path)) for path in results]
    environment = Environment(
        loader=PackageLoader("burnish.report", ""),
        autoescape=True,  # by name it would not: the template ends in .j2
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["uri"] = data_uri
    text = environment.get_template("page.html.j2").render(
        sections=[_section(source) for source in sources],
        overview=overview(sources) if sum(bool(s.result) for s in sources) > 1 else None,
    )
    try:
        with write_aside(out) as aside:
            aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: cannot be written there ({error})") from error
    return out


def _section(source: Source) -> Section:
    """Turn what a source holds into what the page shows; parts it lacks stay empty."""
    result, sidecar = source.result, source.sidecar
    settings = result.get("refine") or sidecar.get("settings") or source.config
    shown = {key: value for key, value in result.items() if key not in NOT_PROVENANCE}
    details = {key: value for key, value in sidecar.items() if key != "settings"}
    return Section(
        name=source.name,
        headline=headline(result) if result else _run_headline(source.log),
        lead=second_opinion(result) if result else _best_validation(source.log),
        tables=[judge_table(judge) for judge in judges(result)] if result else [],
        galleries=galleries(source),
        charts=[*_ledger_charts(source), *run_charts(source.log)],
        settings=list(facts(settings)),
        provenance=[*facts(shown), *_judge_facts(result)],
        details=list(facts(details)),
    )


def _judge_facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what identifies the judges of a comparison; a single evaluation shows its own."""
    if "base" not in result:
        return []
    found: dict[str, str] = {}
    for judge in judges(result):
        for key in ("feature_extractor_sha256", "reference"):
            for name, value in facts({key: judge["base"].get(key)}):
                found[f"{judge['base']['feature_extractor']}: {name}"] = value
    return list(found.items())


def _ledger_charts(source: Source) -> list[Chart]:
    if source.ledger is None or not len(source.ledger["id"]):
        return []
    guide = source.sidecar.get("guide")
    card = guide.get("realness") if isinstance(guide, Mapping) else None
    quantiles = card.get("quantiles") if isinstance(card, Mapping) else None
    settings = source.sidecar.get("settings") or source.result.get("refine") or {}
    threshold, share = source.sidecar.get("threshold"), settings.get("stop_quantile")
    if threshold is None and share is not None and quantiles:
        threshold = float(np.interp(share, np.linspace(0, 1, len(quantiles)), quantiles))
    before, after = source.ledger["realness_before"], source.ledger["realness_after"]
    return [
        realness_chart(before, after, quantiles, threshold),
        steps_chart(source.ledger["num_steps"], source.ledger["stopped"]),
    ]


def _run_headline(log: Sequence[Mapping[str, Any]]) -> str:
    return f"A training run, logged up to step {log[-1]['step']:,}."


def _best_validation(log: Sequence[Mapping[str, Any]]) -> str:
    """Say which checkpoint is the best; training keeps the one of the highest score."""
    scores = [(row.get("validation/score"), row["step"]) for row in log]
    scores = [(s, n) for s, n in scores if isinstance(s, int | float) and math.isfinite(s)]
    if not scores:
        return ""
    score, step = max(scores, key=lambda pair: pair[0])
    return f"Best validation score: {score:.4f} at step {step:,}."
