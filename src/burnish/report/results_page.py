"""The Markdown page of all measured tables, with figures of their sweeps."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.files import write_aside, write_text
from burnish.hub import shipped
from burnish.metrics.metric import METRICS, metric
from burnish.report.inputs import read_json
from burnish.report.rounding import minus

__all__ = ["write_results_page"]

Table = Mapping[str, Any]
Sweeps = dict[tuple[str, str], list[tuple[float, str]]]

INTRODUCTION = """\
# Results

Change of the FID by refinement, by each feature extractor: negative is better. The guides are
those that ship; of several settings of a guide, the one measured first in the tables below is
shown. FIDs of different feature extractors cannot be compared.
Numbers are mean ± standard deviation over ranges of seeds; without ± there is one range.
"""
COLUMNS = """\

## Columns

- **generator**, **row**: what makes the images, and what is done to them. Within a range of seeds,
  the rows of one generator start from the same images.
- **guide**: the classifier whose gradient the images follow.
- **change**: of the FID, against the same images as the generator made them, range by range.
- **NFE**: network function evaluations of the guide per image, beyond those of the generator.
- **published**: what a paper reports for a similar experiment."""


def write_results_page(folder: Path, out: Path) -> None:
    """Write a page about all tables in a folder, and figures into ``images/`` beside the page.

    Args:
        folder: Holds tables of measurements as JSON; other files are ignored.
        out: The Markdown file.

    Raises:
        InputError: There is no table, or a file is not JSON.
    """
    found = [(path, read_json(path)) for path in sorted(folder.glob("*.json"))]
    tables = [(path, table) for path, table in found if "rank_correlation" in table]
    if not tables:
        raise InputError(f"{folder} holds no tables of measurements")
    tables.sort(key=lambda item: (item[1]["data"], item[1]["place"], item[0].name))
    alone = [table for _, table in tables]
    lines = [INTRODUCTION, *_summary(alone), COLUMNS, *_names(alone)]
    for path, table in tables:
        link = f"[{path.name}]({os.path.relpath(path, out.parent)})"
        lines += ["", *_section(table, link, out.parent / "images")]
    write_text(out, "\n".join(lines) + "\n")


def _names(tables: Sequence[Table]) -> Iterator[str]:
    """Yield what the names of feature extractors and metrics mean."""
    results = [result for table in tables for result in table["results"]]
    for name in dict.fromkeys(result["features"] for result in results):
        full = {str(r["feature_extractor"]) for r in results if r["features"] == name}
        yield f"- **{_plain(name)}**: features of {_plain(' or '.join(sorted(full)))}."
    rows = [rows for table in tables for rows in table["summary"].values()]
    found = {key for values in rows for value in values.values() for key in value}
    yield from (f"- **{one.heading}**: {one.explanation}" for one in METRICS if one.key in found)


def _summary(tables: Sequence[Table]) -> Iterator[str]:
    """Yield a table of the changes of the FID, a row per generator and guide."""
    refined = [
        (table, label, row)
        for table in tables
        for label, row in table["rows"].items()
        if row["settings"]
    ]
    guides = {_short(row["guide"]) for _, _, row in refined}
    guides = guides & set(shipped("guide")) or guides
    names: dict[Any, str] = {}
    found: dict[Any, tuple[Any, dict[str, str]]] = {}
    for table, label, row in refined:
        generator, guide = _generator(row), _short(row["guide"])
        if guide not in guides:
            continue
        same = (n for n, r in table["rows"].items() if _generator(r) == generator)
        names.setdefault(generator, f"{table['data']}: {next(same)}")
        settings, changes = found.setdefault((generator, guide), (row["settings"], {}))
        if settings == row["settings"]:  # another table may add feature extractors
            for features, rows in table["summary"].items():
                changes.setdefault(features, _change(rows[label]))
    columns = list(dict.fromkeys(name for _, changes in found.values() for name in changes))
    yield from _grid(
        ["generator", "guide", *columns],
        (
            [name, guide, *(changes.get(column, "") for column in columns)]
            for generator, name in names.items()
            for (other, guide), (_, changes) in found.items()
            if other == generator
        ),
    )


def _section(table: Table, link: str, images: Path) -> Iterator[str]:
    """Yield the lines of one table; draw its sweeps."""
    results, summary, rows = table["results"], table["summary"], table["rows"]
    first, ranges = results[0], dict.fromkeys(result["seeds"] for result in results)
    yield from (f"## {table['data']}: {_plain(table['title'])}", "")
    if table["note"]:
        yield from (_plain(table["note"]), "")
    yield (
        f"Seeds {', '.join(ranges)}; {first['num_images']:,} images each, "
        f"{first['num_neighbors']} neighbors; reference: {_plain(first['reference'])}, "
        f"{first['num_reference_images']:,} images. {link}, commit "
        f"{str(table['commit'])[:12]}: `{table['command']}`"
    )
    yield ""
    has_nfe = any("nfe" in result for result in results)
    has_published = any(row["published"] for row in rows.values())
    head = ["row", *(column for features in summary for column in (f"FID, {features}", "change"))]
    head += ["NFE"] * has_nfe + ["published"] * has_published
    lines = []
    for label, row in rows.items():
        cells, nfe = [label], ""
        for values in (found[label] for found in summary.values()):
            cells += [_value("fid", values), "" if _is_baseline(row) else _change(values)]
            nfe = f"{values['nfe']['mean']:.1f}" if "nfe" in values and row["settings"] else ""
        lines.append([*cells, *[nfe] * has_nfe, *[row["published"]] * has_published])
    yield from (*_grid(head, lines), "")
    yield from _agreement(table["rank_correlation"])
    if sweeps := _sweeps(rows):
        path = images / f"{table['data']}-{table['table']}.png"
        _draw(table, sweeps, path)
        yield from (
            f"![FID and recall over {', '.join(k for _, k in sweeps)}](images/{path.name})",
            "",
        )
    yield from ("<details><summary>All metrics by each feature extractor</summary>", "")
    for features, found in summary.items():
        one = next(result for result in results if result["features"] == features)
        shown = [m for m in METRICS if any(m.key in values for values in found.values())]
        yield from (f"{_plain(one['feature_extractor'])} `{one['feature_extractor_sha256']}`", "")
        yield from _grid(
            ["row", *(one.heading for one in shown)],
            ([label, *(_value(m.key, values) for m in shown)] for label, values in found.items()),
        )
        yield ""
    yield "</details>"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(map(_plain, head))} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(map(_plain, row))} |"


def _plain(text: str) -> str:
    """Keep a cell one cell and a name a name: escape line ends, columns and tags."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _generator(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["generator"], row["num_steps"]


def _is_baseline(row: Mapping[str, Any]) -> bool:
    return not (row["guide"] or row["baseline"])


def _short(path: str) -> str:
    return path.removeprefix("runs/").removesuffix("/model.safetensors").removesuffix("/joint")


def _value(key: str, values: Mapping[str, Any]) -> str:
    """Return mean ± standard deviation of a metric."""
    if key not in values:
        return ""
    mean, std, one = values[key]["mean"], values[key]["std"], metric(key)
    spread = f" ± {std:.{one.decimals(mean)}f}" if std else ""
    return minus(one.text(mean)) + spread


def _change(values: Mapping[str, Any]) -> str:
    if "fid_change" not in values:
        return ""
    mean, std = (100 * values["fid_change"][key] for key in ("mean", "std"))
    return minus(f"{mean:+.1f}") + (f" ± {std:.1f}" if std else "") + " %"


def _agreement(pairs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the line about the order in which feature extractors put the rows."""
    if pairs:
        parts = [
            f"{_plain(pair)}: "
            + ", ".join(f"{metric(key).title} {rho['mean']:.2f}" for key, rho in found.items())
            for pair, found in pairs.items()
        ]
        said = "Rank correlation (Spearman's rho) of the rows between feature extractors."
        yield from (minus(f"{said} {'; '.join(parts)}."), "")


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from burnish.report.charts import LIGHT

    figure = Figure(figsize=(3.6 * len(sweeps), 4.6), dpi=150, layout="constrained")
    grid = figure.subplots(2, len(sweeps), squeeze=False, sharex="col")
    for (above, below), ((name, key), points) in zip(grid.T, sweeps.items(), strict=True):
        places = [value for value, _ in points]
        for (features, rows), hue in zip(table["summary"].items(), LIGHT.hues, strict=False):
            for axes, found, shift in ((above, "fid_change", 1), (below, "recall", 0)):
                values = [rows[label][found] for _, label in points]
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
    grid[0, 0].legend(frameon=False, fontsize=8)
    with write_aside(path) as aside, aside.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
