"""Estimates: every metric of one set of images that has an interval, against one reference."""

from typing import Any

import numpy as np
import torch

from burnish.metrics.estimators import FrechetEstimator, KernelEstimator, SlicedEstimator
from burnish.metrics.halves import BLOCK, NeighborEstimator, nearest_of, squares_of
from burnish.metrics.intervals import Estimate
from burnish.metrics.moments import Array, Moments


class Estimator:
    """Estimates all metrics against one reference; what follows from that alone is computed once.

    Args:
        moments: Of the features of real images.
        features: ``[M, D]`` of real images; None if the reference keeps none.
        num_neighbors: k of precision, recall, density and coverage.
        gaussian: Whether to give ``cmmd``, too; it is meant for features of CLIP.
        validation: Moments of other real images, for the ``fdr``.
    """

    def __init__(
        self, moments: Moments, features: Array | None, *, num_neighbors: int = 3,
        gaussian: bool = False, validation: Moments | None = None,
    ) -> None:  # fmt: skip
        self._k, self._frechet = num_neighbors, FrechetEstimator(moments)
        self._own = None if validation is None else self._frechet.value(validation)
        self._of_features: dict[str, Any] = {}
        self._neighbors = None
        if features is not None and len(features) >= 2:
            self._of_features["kid"] = KernelEstimator(features)
            self._of_features["mind"] = SlicedEstimator(features)
            if gaussian:
                self._of_features["cmmd"] = KernelEstimator(features, gaussian=True)
            if len(features) >= 3:
                self._of_features["copying"] = CopyEstimator(features)
            if len(features) > 2 * num_neighbors:
                self._neighbors = NeighborEstimator(features, num_neighbors=num_neighbors)

    def __call__(
        self, rows: Array, probabilities: Array | None = None, labels: Array | None = None
    ) -> dict[str, Estimate]:
        """Return the estimates of features ``[N, D]``, by key of the metric.

        Args:
            rows: Features.
            probabilities: ``[N, K]``, for the ``inception_score``.
            labels: ``[N]``, for the ``accuracy``; K is the number of classes then.
        """
        found = {"fid": self._frechet(rows)}
        if self._own:
            fid = found["fid"]
            found["fdr"] = Estimate(fid.value / self._own, fid.influence / self._own)
        found |= {key: estimator(rows) for key, estimator in self._of_features.items()}
        if self._neighbors is not None and len(rows) > self._k:
            found |= self._neighbors(rows)
        if probabilities is not None:
            found["inception_score"] = score_estimate(probabilities)
            if labels is not None:
                found["accuracy"] = accuracy_estimate(probabilities, labels)
        return found


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
        reference: Features ``[M, D]``, of at least three images that the generator has seen.
    """

    def __init__(self, reference: Array) -> None:
        self._center = torch.from_numpy(reference.mean(0, dtype=np.float64)).float()
        self._reference = torch.from_numpy(np.asarray(reference, np.float32)) - self._center
        near, places = nearest_of(self._reference, 2)
        self._nearest = near[:, 0]
        nearest, itself = places[:, 0], torch.arange(len(places))
        # Without y itself, the nearest to its own nearest is the second where y is the first.
        limit = torch.where(places[nearest, 0] == itself, near[nearest, 1], near[nearest, 0])
        self.expected = float((near[:, 0] < limit).double().mean())

    def __call__(self, features: Array) -> Estimate:
        """Return the estimate of features ``[N, D]``."""
        x = torch.from_numpy(np.asarray(features, np.float32)) - self._center
        copies = np.empty(len(x))
        for i in range(0, len(x), BLOCK):
            rows = x[i : i + BLOCK]
            best = torch.full((len(rows),), torch.inf)
            where = torch.zeros(len(rows), dtype=torch.int64)
            for j in range(0, len(self._reference), 8 * BLOCK):
                near, place = squares_of(rows, self._reference[j : j + 8 * BLOCK]).min(1)
                where = torch.where(near < best, place + j, where)
                best = torch.minimum(near, best)
            copies[i : i + BLOCK] = (best < self._nearest[where]).numpy()
        return Estimate(float(copies.mean()) - self.expected, copies - copies.mean())


def score_estimate(probabilities: Array) -> Estimate:
    r"""Return the Inception Score of all images as one split, and each image's influence.

    .. math:: \psi_i = IS\, (KL(p(y|x_i) \,\|\, p(y)) - \text{mean})
    """
    p = np.asarray(probabilities, np.float64)
    mean = p.mean(0)
    logs = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(mean, 1e-300))
    divergence = (p * logs).sum(1)
    score = float(np.exp(divergence.mean()))
    return Estimate(score, score * (divergence - divergence.mean()))


def accuracy_estimate(probabilities: Array, labels: Array) -> Estimate:
    """Return the share of images whose most probable class is their label ``[N]``."""
    right = (np.argmax(probabilities, 1) == labels).astype(np.float64)
    return Estimate(float(right.mean()), right - right.mean())
