"""The Markdown page of all measured tables, with figures of their sweeps."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from burnish.files import check_target, write_aside, write_text
from burnish.hub import shipped
from burnish.metrics.intervals import Z95
from burnish.metrics.metric import METRICS, metric
from burnish.report.measured import read_tables
from burnish.report.text import minus, number, render

Table = Mapping[str, Any]
Sweeps = dict[tuple[str, str], list[tuple[float, str]]]


def write_results_page(folder: Path, out: Path, *, force: bool = True) -> None:
    """Write a page about all tables in a folder, and figures into ``images/`` beside the page.

    Tables are JSON files with measurements; other JSON is ignored. ``force`` says whether figures
    may be replaced.
    """
    tables = read_tables(folder)
    for table in tables:
        if _sweeps(table["rows"]):
            check_target(out.parent / _figure(table), force=force)
    features: dict[str, set[str]] = {}
    for result in (result for table in tables for result in table["results"]):
        features.setdefault(result["features"], set()).add(str(result["feature_extractor"]))
    rows = [row for table in tables for rows in table["summary"].values() for row in rows.values()]
    text = render(
        "results.md.j2",
        summary=_summary(tables),
        features={name: sorted(extractors) for name, extractors in features.items()},
        metrics=[one for one in METRICS if any(one.key in row for row in rows)],
        titles={one.key: one.title for one in METRICS},
        sections=[_section(table, folder, out) for table in tables],
    )
    write_text(out, text)


def _summary(tables: Sequence[Table]) -> dict[str, Any]:
    """Return a table of the changes of the FID, a row per generator and guide."""
    every = [(table, label, row) for table in tables for label, row in table["rows"].items()]
    refined = [(table, label, row) for table, label, row in every if row["settings"]]
    guides = {_short(row["guide"]) for _, _, row in refined}
    guides = guides & set(shipped("guide")) or guides
    names: dict[Any, str] = {}
    found: dict[Any, dict[str, tuple[Any, dict[str, str]]]] = {}
    for table, label, row in refined:
        generator, guide = _generator(row), _short(row["guide"])
        if guide not in guides:
            continue
        first = next(n for n, r in table["rows"].items() if _generator(r) == generator)
        names.setdefault(generator, f"{table['data']}: {first}")
        by_guide = found.setdefault(generator, {})
        settings, changes = by_guide.setdefault(guide, (row["settings"], {}))
        if settings == row["settings"]:  # another table may add feature extractors
            for features, rows in table["summary"].items():
                changes.setdefault(features, _change(rows[label]))
    columns = dict.fromkeys(
        name for by_guide in found.values() for _, changes in by_guide.values() for name in changes
    )
    rows = [
        [names[generator], guide, *(changes.get(column, "") for column in columns)]
        for generator, by_guide in found.items()
        for guide, (_, changes) in by_guide.items()
    ]
    return {"head": ["generator", "guide", *columns], "rows": rows}


def _section(table: Table, folder: Path, out: Path) -> dict[str, Any]:
    """Return a table and what the template shows of it; draw its sweeps."""
    results, summary, rows = table["results"], table["summary"], table["rows"]
    has_nfe = any(result["nfe"] is not None for result in results)
    has_published = any(row["published"] for row in rows.values())
    head = ["row", *(column for features in summary for column in (f"FID, {features}", "change"))]
    lines = []
    for label, row in rows.items():
        cells, nfe = [label], ""
        for values in (found[label] for found in summary.values()):
            is_baseline = not (row["guide"] or row["baseline"])
            cells += [_value("fid", values), "" if is_baseline else _change(values)]
            nfe = f"{values['nfe']['mean']:.1f}" if "nfe" in values and row["settings"] else ""
        lines.append([*cells, *[nfe] * has_nfe, *[row["published"]] * has_published])
    details = []
    for features, found in summary.items():
        one = next(result for result in results if result["features"] == features)
        shown = [m for m in METRICS if any(m.key in values for values in found.values())]
        details.append({
            "extractor": one["feature_extractor"],
            "sha256": one["feature_extractor_sha256"],
            "head": ["row", *(one.heading for one in shown)],
            "rows": [[name, *(_value(m.key, row) for m in shown)] for name, row in found.items()],
        })  # fmt: skip
    figure = _figure(table)
    if sweeps := _sweeps(rows):
        _draw(table, sweeps, out.parent / figure)
    head += ["NFE"] * has_nfe + ["published"] * has_published
    return {
        **table,
        "link": quote(os.fsencode(os.path.relpath(folder / table["file"], out.parent))),
        "fids": {"head": head, "rows": lines},
        "figure": figure,
        "swept": [key for _, key in sweeps],
        "details": details,
    }


def _figure(table: Table) -> str:
    return f"images/{table['data']}-{table['table']}.png"


def _generator(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["generator"], row["num_steps"]


def _short(path: str) -> str:
    return path.removeprefix("runs/").removesuffix("/model.safetensors").removesuffix("/joint")


def _value(key: str, values: Mapping[str, Any]) -> str:
    """Return mean ± standard deviation of a metric."""
    if key not in values:
        return ""
    mean, std, one = values[key]["mean"], values[key]["std"], metric(key)
    return number(one, mean) + (f" ± {std:.{one.decimals(mean)}f}" if std else "")


def _change(values: Mapping[str, Any]) -> str:
    if "fid_change" not in values:
        return ""
    mean, std = (100 * values["fid_change"][key] for key in ("mean", "std"))
    text = minus(f"{mean:+.1f}") + (f" ± {std:.1f}" if std else "") + " %"
    known = values.get("fid_difference")
    if known is None or abs(known["mean"]) > Z95 * known["std"]:
        return text
    return f"{text} \N{DAGGER}"


def _sweeps(rows: Mapping[str, Any]) -> Sweeps:
    """Return ``(name, setting) -> [(value, row)]`` of rows in which one number is swept."""
    found: Sweeps = {}
    for label, row in rows.items():
        for key, (value,) in row["sweep"].items():
            if len(row["sweep"]) == 1 and isinstance(value, int | float):
                name = label.removesuffix(f", {key} {value}")
                found.setdefault((name, key), []).append((value, label))
    return {key: sorted(points) for key, points in found.items() if len(points) > 3}


def _draw(table: Table, sweeps: Sweeps, path: Path) -> None:
    """Draw FID, as a share of the baseline's, and recall over each swept setting."""
    from matplotlib.figure import Figure

    from burnish.report.charts import LIGHT, figure_png

    figure = Figure(figsize=(3.6 * len(sweeps), 4.6), dpi=150, layout="constrained")
    grid = figure.subplots(2, len(sweeps), squeeze=False, sharex="col")
    for (above, below), ((name, key), points) in zip(grid.T, sweeps.items(), strict=True):
        places = [value for value, _ in points]
        for (features, rows), hue in zip(table["summary"].items(), LIGHT.hues, strict=False):
            for axes, found, shift in ((above, "fid_change", 1), (below, "recall", 0)):
                values = [rows[label].get(found) for _, label in points]
                if None in values:
                    continue
                means = [value["mean"] + shift for value in values]
                stds = [value["std"] for value in values]
                axes.errorbar(places, means, stds, color=hue, marker="o", ms=3, label=features)
        above.axhline(1, color=LIGHT.gray, linewidth=0.8, linestyle=(0, (4, 3)))
        above.set_title(name, fontsize=9)
        above.set(ylabel="FID / FID of the baseline", xscale="log")
        below.set(xlabel=key, ylabel="recall")
        below.set_xticks(places, [f"{place:g}" for place in places])
        below.minorticks_off()
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
    if grid[0, 0].get_legend_handles_labels()[0]:
        grid[0, 0].legend(frameon=False, fontsize=8)
    with write_aside(path) as aside:
        aside.write_bytes(figure_png(figure))
