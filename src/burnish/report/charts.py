"""Charts, each drawn for light and for dark pages.

matplotlib is used through its objects, without pyplot, so that nothing global is changed.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


class Theme(NamedTuple):
    """Colors of a chart; color-blind readers can tell the hues apart."""

    ink: str
    grid: str
    gray: str
    hues: tuple[str, ...]


LIGHT = Theme("#3d4248", "#e4e6e9", "#8f979f", ("#c2570c", "#0b6fb8", "#0f8a63", "#9a4fb0"))
DARK = Theme("#c3c8ce", "#33383e", "#7d858d", ("#f5924e", "#5cb3f0", "#3fc795", "#cf8fe0"))


class Chart(NamedTuple):
    """One chart as two PNGs, for light and for dark pages."""

    title: str
    description: str
    light: bytes
    dark: bytes


# Of training runs: title, unit of the y-axis, and for each line its key in the log and its label.
PANELS: dict[str, list[tuple[str, str, dict[str, str]]]] = {
    "joint": [
        ("Realness over training", "mean logit", {
            "realness_generated": "generated",
            "realness_attacked_generated": "generated, attacked", "realness_real": "real",
        }),
        ("Held out, clean and under attack", "share", {
            "validation/accuracy_attacked": "accuracy, attacked",
            "validation/accuracy_clean": "accuracy, clean",
            "validation/auc_attacked": "AUC, attacked", "validation/auc_clean": "AUC, clean",
        }),
        ("Growth of the attack", "steps",
            {"attack_steps": "allowed", "attack_steps_made": "taken before stopping"}),
    ],
    "other": [
        ("Loss", "loss", {"loss": "loss"}),
        ("Validation", "score", {"validation/score": "validation score"}),
    ],
}  # fmt: skip


def realness_chart(
    before: np.ndarray,
    after: np.ndarray,
    quantiles: Sequence[float] | None,
    threshold: float | None,
) -> Chart:
    """Draw histograms of the realness ``[N]`` of images before and after, and of real images.

    Of real images, ``quantiles`` are given at equal spaces from 0 to 1. Images were stopped at the
    realness ``threshold``.
    """
    sides = {"generated": before[np.isfinite(before)], "refined": after[np.isfinite(after)]}
    real = np.empty(0)
    if quantiles is not None:
        # Values of the inverse distribution function at even shares have the same distribution.
        shares = (np.arange(1000) + 0.5) / 1000
        real = np.interp(shares, np.linspace(0, 1, len(quantiles)), quantiles)
    num_bins = int(np.clip(1.5 * len(before) ** 0.5, 12, 48))
    edges = np.histogram_bin_edges(np.concatenate([*sides.values(), real]), num_bins).tolist()

    def draw(axes: Axes, theme: Theme) -> None:
        filled: dict[str, Any] = {"color": theme.gray, "alpha": 0.4}
        lines = ({"color": hue, "histtype": "step", "linewidth": 1.8} for hue in theme.hues)
        styles = [filled, *lines]
        for (name, values), style in zip({"real": real, **sides}.items(), styles, strict=False):
            if len(values):
                label = f"{name}, median {np.median(values):.2f}"
                weights = np.full(len(values), 1 / len(values))
                axes.hist(values, edges, weights=weights, label=label, **style)
        if threshold is not None:
            line = axes.axvline(threshold, color=theme.ink, linewidth=1.2, linestyle=(0, (4, 3)))
            line.set_label(f"stop at {threshold:.2f}")
        axes.set(xlabel="realness (logit of the guide)", ylabel="share of images")

    return _chart("Realness before and after", "Histograms of generated, refined and real.", draw)


def steps_chart(num_steps: np.ndarray, stopped: np.ndarray) -> Chart:
    """Draw a histogram of steps per image, colored by why the images stopped."""
    reasons, counts = np.unique(stopped, return_counts=True)
    places = np.arange(num_steps.max(initial=0) + 1)

    def draw(axes: Axes, theme: Theme) -> None:
        bottom = np.zeros(len(places))
        for i in np.argsort(-counts, kind="stable"):
            heights = np.bincount(num_steps[stopped == reasons[i]], minlength=len(places))
            hue = theme.hues[::-1][i % len(theme.hues)]
            # A dollar sign would start a formula.
            label = f"{reasons[i]} ({counts[i]:,})".replace("$", r"\$")
            axes.bar(places, heights, 0.85, bottom, color=hue, label=label)
            bottom += heights
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="steps taken", ylabel="images")

    return _chart("Steps taken, and why they stopped", "Histogram of steps per image.", draw)


def run_charts(log: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Draw the curves of a training run; panels without logged values are left out."""
    joint = any("attack_steps" in row or "realness_real" in row for row in log)
    charts = []
    for title, unit, names in PANELS["joint" if joint else "other"]:
        curves = {}
        for key, label in names.items():
            rows = [row for row in log if isinstance(row.get(key), int | float)]
            if rows:
                curves[label] = np.array([[row["step"], row[key]] for row in rows], float).T
        if curves:
            charts.append(_curves_chart(title, unit, curves))
    return charts


def _curves_chart(title: str, unit: str, curves: Mapping[str, np.ndarray]) -> Chart:
    """Draw curves, each ``[2, N]``, steps and values."""

    def draw(axes: Axes, theme: Theme) -> None:
        for (label, curve), hue in zip(curves.items(), theme.hues, strict=False):
            num_points = curve.shape[1]
            if num_points >= 60:  # the mean of neighbors over the points themselves
                axes.plot(*curve, color=hue, linewidth=0.7, alpha=0.3)
                width = num_points // 30
                kernel = np.full(width, 1 / width)
                curve = [np.convolve(values, kernel, "valid") for values in curve]
            axes.plot(
                *curve, marker="o" if num_points < 30 else None, markersize=3, color=hue,
                linewidth=1.7, label=label if len(curves) > 1 else None,
            )  # fmt: skip
        axes.set(xlabel="training step", ylabel=unit)

    return _chart(title, f"Curves over training: {', '.join(curves)}.", draw)


def _chart(title: str, description: str, draw: Callable[[Axes, Theme], None]) -> Chart:
    pictures = []
    for theme in (LIGHT, DARK):
        figure = Figure(figsize=(4.8, 3.0), dpi=170, facecolor="none", layout="constrained")
        axes = figure.add_subplot(facecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(theme.gray)
        axes.tick_params(colors=theme.ink, labelsize=8.5, length=3)
        axes.grid(axis="y", color=theme.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        draw(axes, theme)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set(color=theme.ink, size=9)
        if axes.get_legend_handles_labels()[0]:
            legend = {"frameon": False, "fontsize": 8.5, "labelcolor": theme.ink, "ncols": 2}
            # Above the axes, where it covers nothing.
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), handlelength=1.4, **legend)
        pictures.append(figure_png(figure))
    return Chart(title, description, *pictures)


def figure_png(figure: Figure) -> bytes:
    """Encode a figure, without the version of matplotlib."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
