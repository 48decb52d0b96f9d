"""What ``burnish tune`` writes: the numbers, the curve as a picture, and the settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from burnish.errors import InputError
from burnish.files import check_target, read_json, write_aside, write_json, write_text
from burnish.jobs.options import SettingsFile
from burnish.report.charts import LIGHT, figure_png
from burnish.schema import read
from burnish.studies.dose.tune import PRESET


def check_files(out: Path, *inputs: Path | str, force: bool = True) -> None:
    """Refuse names that :func:`write_tuning` cannot write; see :func:`burnish.files.check_target`.

    Raises:
        InputError: One of the three files is an input, or cannot be written or replaced.
    """
    if out.suffix != ".json":
        raise InputError(f"{out}: the result is a .json; a .png and a .yaml go beside it")
    for path in _files(out):
        check_target(path, *inputs, force=force)


def _files(out: Path) -> tuple[Path, Path, Path]:
    return out, out.with_suffix(".png"), out.with_suffix(".settings.yaml")


def write_tuning(out: Path, result: Mapping[str, Any]) -> list[Path]:
    """Write ``out`` (JSON), its picture and, if settings are recommended, their file.

    The settings file of an earlier result is removed if nothing is recommended now.

    Returns:
        The files written.
    """
    _, picture, settings = _files(out)
    write_json(out, result)
    with write_aside(picture) as aside:
        aside.write_bytes(curve(result))
    if result["chosen"] is None:
        settings.unlink(missing_ok=True)
        return [out, picture]
    values = {"preset": PRESET, "labels": result["labels"], **result["chosen"]}
    note = f"# For burnish refine --settings; see {out.name}.\n"
    write_text(settings, note + yaml.safe_dump(values, sort_keys=False))
    return [out, picture, settings]


def read_tuning(path: Path) -> dict[str, Any]:
    """Read what tune found: ``chosen``, checked settings or None, ``verdict``, ``words`` and more.

    Raises:
        InputError: It is no such file.
    """
    found = read_json(path)
    has_words = all(isinstance(found.get(key), str) for key in ("verdict", "words"))
    if not has_words or "chosen" not in found:
        raise InputError(f"{path}: no result of burnish tune")
    chosen, where = found["chosen"], f"{path}: chosen"
    if chosen is not None:
        if not chosen:
            raise InputError(f"{where}: no settings")
        read(SettingsFile, chosen, where)
    return found


def curve(result: Mapping[str, Any]) -> bytes:
    """Draw FD and KID over eps, relative to the images as they are, as a PNG.

    Each extractor has a color; independent ones have thick lines. Where several settings have the
    same eps, those with the other settings of the choice, or of the first setting, are joined; a
    learned refiner is no point of it.
    """
    figure = Figure(figsize=(7.2, 3.4), dpi=200, facecolor="white", layout="constrained")
    panels: Any = figure.subplots(1, 2)
    for axes, key, name in zip(panels, ("fid", "kid"), ("FD", "KID"), strict=True):
        _panel(axes, result, key)
        axes.set_title(f"{name}, change from the images as they are", fontsize=9, loc="left")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5
    )
    return figure_png(figure)


def _panel(axes: Axes, result: Mapping[str, Any], key: str) -> None:
    before, *tried = result["rows"]
    like = {
        k: v
        for k, v in (result["chosen"] or tried[0]["settings"]).items()
        if k not in ("eps", "refiner")
    }
    joined = [
        row for row in tried
        if {**row["settings"], **like} == row["settings"] and "refiner" not in row["settings"]
    ]  # fmt: skip
    joined.sort(key=lambda row: row["settings"]["eps"])
    for i, extractor in enumerate(result["extractors"]):
        name, thick = extractor["name"], extractor["independent"]
        first = before["scores"][name][key]
        if first <= 0:
            continue  # a KID of about 0: nothing to compare with
        changes = [row["scores"][name][f"{key}_change"] for row in joined]
        axes.errorbar(
            [0, *(row["settings"]["eps"] for row in joined)],
            [0, *(100 * change["difference"] / first for change in changes)],
            [0, *(100 * 1.96 * change["std_error"] / first for change in changes)],
            color=LIGHT.hues[i % len(LIGHT.hues)], marker="o", markersize=4 if thick else 3,
            linewidth=2.4 if thick else 1.3, elinewidth=1, capsize=2,
            label=f"{name}{' (independent)' if thick else ''}",
        )  # fmt: skip
    axes.axhline(0, color=LIGHT.ink, linewidth=0.9)
    if result["chosen"]:
        axes.axvline(
            result["chosen"]["eps"], color=LIGHT.ink, linewidth=1.2, linestyle=(0, (4, 3)),
            label="chosen",
        )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=LIGHT.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f} %")
    axes.set_xlabel("eps", fontsize=9)
