"""Estimates: every metric of one set of images that has an interval, against one reference."""

from collections.abc import Collection
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from burnish.errors import InputError
from burnish.metrics.estimators import FrechetEstimator, KernelEstimator
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.halves import BLOCK, Features, HalvesEstimator, nearest_of, squares_of
from burnish.metrics.intervals import Estimate
from burnish.metrics.moments import Array, Moments, moments_of
from burnish.metrics.neighbors import Neighborhoods, neighborhoods
from burnish.metrics.protocol import ESTIMATED, NEIGHBORS, Protocol
from burnish.metrics.reference import Reference
from burnish.metrics.sliced import SlicedEstimator

KEYS = ("fid", "kid", "inception_score", *NEIGHBORS, "mind", "fdr", "copying", "accuracy")


class Estimator:
    """Estimates all metrics against one reference; what follows from that alone is computed once.

    Args:
        moments: Of the features of real images.
        features: ``[M, D]`` of real images; None if the reference keeps none.
        num_neighbors: k of precision, recall, density and coverage.
        keys: The metrics that are wanted; ``cmmd`` is meant for features of CLIP alone.
        validation: Moments of other real images, for the ``fdr``.
    """

    def __init__(
        self, moments: Moments, features: Array | None, *, num_neighbors: int = 3,
        keys: Collection[str] = KEYS, validation: Moments | None = None,
    ) -> None:  # fmt: skip
        self._k, self._moments = num_neighbors, moments
        self._own = None if validation is None else self._frechet.value(validation)
        made: dict[str, Any] = {
            "kid": KernelEstimator, "mind": SlicedEstimator,
            "cmmd": partial(KernelEstimator, gaussian=True),
        }  # fmt: skip
        self._keys, self._halves, self._reference = set(keys), None, features
        self._of_features: dict[str, Any] = {}
        if features is not None and len(features) >= 3:
            self._of_features = {key: made[key](features) for key in made if key in keys}
            if self._keys & {"copying", "recall", "coverage"}:
                around = Features(features)
                if "copying" in keys:
                    self._of_features["copying"] = CopyEstimator(around)
                if self._keys & {"recall", "coverage"}:
                    self._halves = HalvesEstimator(around, num_neighbors)

    @cached_property
    def _frechet(self) -> FrechetEstimator:
        return FrechetEstimator(self._moments)

    def __call__(
        self, rows: Array, probabilities: Array | None = None, labels: Array | None = None,
        *, near: Neighborhoods | None = None,
    ) -> dict[str, Estimate]:  # fmt: skip
        """Return the estimates of features ``[N, D]``, by key of the metric.

        Args:
            rows: Features.
            probabilities: ``[N, K]``, for the ``inception_score``.
            labels: ``[N]``, for the ``accuracy``; K is the number of classes then.
            near: The neighborhoods of the same rows, if they are known.
        """
        found: dict[str, Estimate] = {}
        if self._keys & {"fid", "fdr"}:
            found["fid"] = self._frechet(rows)
        if self._own and "fdr" in self._keys:
            found["fdr"] = found["fid"].over(self._own)
        found |= {key: estimator(rows) for key, estimator in self._of_features.items()}
        real, k = self._reference, self._k
        if self._keys & {*NEIGHBORS} and real is not None and min(len(rows), len(real)) > k:
            near = near or neighborhoods(generated=rows, reference=real, num_neighbors=k)
            inside, share = (near.around > 0).astype(np.float64), near.around / k
            found["precision"] = _share(inside)
            none = 0 if share.any() else len(share)  # a density of 0 is a share of 0
            found["density"] = replace(_share(share), trials=none)
            real = {"recall": near.recalled, "coverage": near.covered}
            for key, halves in (self._halves(rows, real) if self._halves else {}).items():
                value = float(real[key].mean())
                found[key] = Estimate(value, halves, halved=True, trials=len(rows))
        if probabilities is not None:
            found["inception_score"] = score_estimate(probabilities)
            if labels is not None:
                found["accuracy"] = accuracy_estimate(probabilities, labels)
        return {key: one for key, one in found.items() if key in self._keys}

    def extrapolate(self, rows: Array) -> float:
        """Return the FD of infinitely many images, see :func:`extrapolated`."""
        return extrapolated(rows, self._frechet)


class CopyEstimator:
    r"""How many more generated images are copies of reference images than new real ones would be.

    An image x counts as a copy if its nearest reference image y is nearer to it than to any other
    reference image: :math:`|x - y| < \min_{y' \ne y} |y - y'|`. New real images are copies in this
    sense, too, about as often as a reference image is to the others (found by leaving each one
    out); the share of these is subtracted. The value is 0 for new real images up to their error,
    1 minus that share if all are copied, and negative for images that lie farther off than real
    ones. It sees copies of the images in the reference alone. Source: one minus the authenticity
    of Alaa et al., "How Faithful is your Synthetic Data?", 2022, section 3.3,
    https://arxiv.org/abs/2102.08921; the calibration is ours.

    Args:
        reference: The images that the generator has seen.
    """

    def __init__(self, reference: Features) -> None:
        self._reference = reference
        squares, found = nearest_of(reference.rows, reference.rows, 3)
        near, places = squares[:, 1:], found[:, 1:]  # the first is itself
        self._nearest = near[:, 0]
        nearest, itself = places[:, 0], torch.arange(len(places))
        # Without y itself, the nearest to its own nearest is the second where y is the first.
        limit = torch.where(places[nearest, 0] == itself, near[nearest, 1], near[nearest, 0])
        self.expected = float((near[:, 0] < limit).double().mean())

    def __call__(self, features: Array) -> Estimate:
        """Return the estimate of features ``[N, D]``."""
        copies, real = np.empty(len(features)), self._reference.rows
        for i in range(0, len(features), BLOCK):
            rows = self._reference.moved(features[i : i + BLOCK])
            best = torch.full((len(rows),), torch.inf)
            where = torch.zeros(len(rows), dtype=torch.int64)
            for j in range(0, len(real), 8 * BLOCK):
                near, place = squares_of(rows, real[j : j + 8 * BLOCK]).min(1)
                where = torch.where(near < best, place + j, where)
                best = torch.minimum(near, best)
            copies[i : i + BLOCK] = (best < self._nearest[where]).numpy()
        found = _share(copies)
        return replace(found, value=found.value - self.expected, expected=self.expected)


def _share(of_each: Array) -> Estimate:
    """Return the estimate of a mean over images ``[N]``."""
    value = of_each.mean()
    return Estimate(float(value), of_each - value, trials=len(of_each))


def score_estimate(probabilities: Array) -> Estimate:
    r"""Return the Inception Score of all images as one split, and each image's influence.

    .. math:: \psi_i = IS\, (KL(p(y|x_i) \,\|\, p(y)) - \text{mean})
    """
    p = np.asarray(probabilities, np.float64)
    mean = p.mean(0)
    logs = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(mean, 1e-300))
    divergence = (p * logs).sum(1)
    score = float(np.exp(max(divergence.mean(), 0.0)))
    return Estimate(score, score * (divergence - divergence.mean()))


def accuracy_estimate(probabilities: Array, labels: Array) -> Estimate:
    """Return the share of images whose most probable class is their label ``[N]``."""
    return _share((np.argmax(probabilities, 1) == labels).astype(np.float64))


def extrapolated(
    rows: Array, estimator: FrechetEstimator, *, num_points: int = 15, least: int = 5000,
    seed: int = 0,
) -> float:  # fmt: skip
    r"""Return the FD of infinitely many images: the intercept of a line through FDs over 1 / N.

    The line is fitted by least squares to ``num_points`` random parts of the rows ``[N, D]``, of
    evenly spaced sizes from ``least``, at most N / 2, to N. Without the bias of order 1 / N
    generators of different biases can be compared. Source: Chong and Forsyth, "Effectively
    Unbiased FID and Inception Score and where to find them", 2020, section 4,
    https://arxiv.org/abs/1911.07023.

    Raises:
        InputError: There are fewer than three rows, of which no line follows.
    """
    if len(rows) < 3:
        raise InputError(f"--fid-infinity needs at least 3 generated images, not {len(rows)}")
    rng, most = np.random.default_rng(seed), len(rows)
    counts = np.linspace(max(2, min(least, most // 2)), most, num_points).astype(int)
    values = []
    for count in counts:
        chosen = np.sort(rng.permutation(most)[:count])
        values.append(estimator.value(moments_of(rows[chosen])))
    return float(np.polyfit(1 / counts, values, 1)[1])


def estimate(
    rows: Array, real: Reference, extractor: FeatureExtractor | None, how: Protocol,
    num_neighbors: int, *, values: dict[str, float | None], probabilities: Array | None = None,
    labels: Array | None = None, spatial: Array | None = None,
    validation: Reference | None = None, extrapolate: bool = False,
    near: Neighborhoods | None = None,
) -> dict[str, Estimate]:  # fmt: skip
    """Return the estimates of the metrics of a protocol, and fill in values that are estimates.

    Of metrics whose value is known the estimate is around that value. Only the KID is around that
    over all pairs, free of the noise of its subsets.

    Args:
        rows: Features ``[N, D]`` of generated images.
        real: What they are compared with.
        extractor: What made the features.
        how: The protocol.
        num_neighbors: k of precision and the like.
        values: By key, None where there is no value.
        probabilities: ``[N, K]``.
        labels: ``[N]``; they count if the extractor knows K classes and they are among them.
        spatial: ``[N, 2023]``, of the sFID.
        validation: Other real images, for the FDr.
        extrapolate: Whether to compute ``fid_infinity``.
        near: The neighborhoods that the values follow from.
    """
    wanted = {key for key in how.metrics if values[key] is not None or key in ESTIMATED}
    if not (getattr(extractor, "name", "") or "").startswith("clip"):
        wanted -= {"cmmd"}
    if labels is not None and not _are_classes(labels, probabilities, extractor):
        labels = None
    estimator = Estimator(
        real.moments, real.features, num_neighbors=num_neighbors, keys=wanted,
        validation=None if validation is None else validation.moments,
    )  # fmt: skip
    found = estimator(rows, probabilities, labels, near=near)
    if "sfid" in wanted and spatial is not None and real.spatial is not None:
        found["sfid"] = FrechetEstimator(real.spatial)(spatial)
    if extrapolate and "fid_infinity" in how.metrics:
        values["fid_infinity"] = estimator.extrapolate(rows)
    for key, one in found.items():
        if key in ESTIMATED:
            values[key] = one.value
        elif key != "kid" and (value := values[key]) is not None:
            found[key] = replace(one, value=value)
    return found


def _are_classes(
    labels: Array, probabilities: Array | None, extractor: FeatureExtractor | None
) -> bool:
    """Return whether labels are classes that the extractor was trained to tell apart."""
    if probabilities is None or not getattr(extractor, "classifies", False):
        return False
    return bool((labels >= 0).all() and (labels < probabilities.shape[1]).all())
