"""The one list of metrics: what each is called, computed from, better towards, and rounded to.

A new metric is one entry of :data:`METRICS` and a function in :mod:`burnish.metrics.formulas`.
"""

import math
from dataclasses import dataclass
from typing import Literal

DASH = "\N{EN DASH}"
ANY, SHARE = (-math.inf, math.inf), (0.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """One metric."""

    key: str
    """Its name in results."""
    title: str
    """Its name in tables."""
    better: Literal["lower", "higher"]
    explanation: str
    """One plain sentence for readers of a report."""
    needs: Literal["moments", "spatial", "features", "neighbors", "probabilities", "estimate"]
    """Arguments of the formula: moments of both sides, of features or of spatial features; their
    features, and how to draw subsets or the number of neighbors; or class probabilities of the
    generated images. An estimate comes from :mod:`burnish.metrics.estimates`."""
    formula: str
    """Function of :mod:`burnish.metrics.formulas` that returns the value, or a dict with this key
    and others; it is called once."""
    min_decimals: int = 3
    max_decimals: int = 3
    """Between the two, as many decimals as give three significant digits."""
    std_key: str | None = None
    """The name in results of its standard deviation, if the formula gives one."""
    range: tuple[float, float] = (0.0, math.inf)
    """The lowest and the highest value that there can be, whatever the images."""

    @property
    def heading(self) -> str:
        """The title with an arrow towards the better."""
        return f"{self.title} {'↑' if self.better == 'higher' else '↓'}"

    def decimals(self, value: float) -> int:
        """Return the number of decimals that a value is shown with."""
        if not math.isfinite(value) or value == 0:
            return self.min_decimals
        wanted = 2 - math.floor(math.log10(abs(value)))
        return min(self.max_decimals, max(self.min_decimals, wanted))

    def text(self, value: float | None) -> str:
        """Round a value; a dash stands for one that is missing."""
        return DASH if value is None else rounded(value, self.decimals(value))


def rounded(value: float, decimals: int, sign: str = "") -> str:
    """Return a number with so many decimals, or ``1.2e+300`` for one with too many digits.

    Args:
        value: Any number.
        decimals: Behind the point.
        sign: ``+`` to give positive numbers theirs.
    """
    return f"{value:{sign}.{'3g' if 1e9 <= abs(value) < math.inf else f'{decimals}f'}}"


METRICS = (
    Metric(
        "fid", "FID", "lower",
        "Fréchet distance of two Gaussians, one fitted to the features of generated images and "
        "one to those of real images.",
        "moments", "frechet_distance", 2, 5,
    ),
    Metric(
        "sfid", "sFID", "lower",
        "The same distance of spatial features, which keep where in the image something is.",
        "spatial", "frechet_distance", 2, 5,
    ),
    Metric(
        "kid", "KID", "lower",
        "Kernel distance of the two sets of features; unbiased, so its mean is 0 for equal "
        "distributions whatever the number of images.",
        "features", "kernel_distance", 2, 6, range=ANY,
    ),
    Metric(
        "inception_score", "Inception Score", "higher",
        "Confidence and variety of the classes that a network predicts, from 1 to the number of "
        "classes; real images play no part.",
        "probabilities", "inception_score", 2, 2, std_key="inception_score_std",
        range=(1.0, math.inf),
    ),
    Metric(
        "precision", "Precision", "higher",
        "Share of generated images that lie among real ones in feature space.",
        "neighbors", "neighbor_shares", range=SHARE,
    ),
    Metric(
        "recall", "Recall", "higher",
        "Share of real images that lie among generated ones in feature space.",
        "neighbors", "neighbor_shares", range=SHARE,
    ),
    Metric(
        "density", "Density", "higher",
        "Number of neighborhoods of real images that a generated image lies in, over the number "
        "of neighbors; like precision, but less moved by outliers among the real images.",
        "neighbors", "neighbor_shares",
    ),
    Metric(
        "coverage", "Coverage", "higher",
        "Share of real images with a generated image in their neighborhood; like recall, but less "
        "moved by outliers among the generated images.",
        "neighbors", "neighbor_shares", range=SHARE,
    ),
    Metric(
        "mind", "MIND", "lower",
        "Distance that the features must be moved along random directions to become those of real "
        "images, squared; it fits no Gaussian and needs fewer images than an FID.",
        "estimate", "", 2, 5,
    ),
    Metric(
        "cmmd", "CMMD", "lower",
        "Kernel distance of features of CLIP, times 1000.",
        "estimate", "", 3, 5,
    ),
    Metric(
        "fdr", "FDr", "lower",
        "FID over that of other real images against the same reference: near 1 the images are "
        "as far from it as real ones.",
        "estimate", "", 2, 4,
    ),
    Metric(
        "fid_infinity", "FID∞", "lower",
        "FID extrapolated to infinitely many generated images.",
        "estimate", "", 2, 5, range=ANY,
    ),
    Metric(
        "copying", "Copying", "lower",
        "Share of images that are nearer to a real image than its nearest real neighbor is, less "
        "that share of new real images; above 0 images are copied.",
        "estimate", "", range=(-1.0, 1.0),
    ),
    Metric(
        "accuracy", "Accuracy", "higher",
        "Share of images that the network of the features classifies as their label.",
        "estimate", "", range=SHARE,
    ),
)  # fmt: skip


def metric(key: str) -> Metric:
    """Return the metric of a key; KeyError if there is none."""
    return {metric.key: metric for metric in METRICS}[key]
