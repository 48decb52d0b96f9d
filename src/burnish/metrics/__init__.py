"""Metrics: features of images, pure formulas of features, and the one pass that joins them."""

from burnish.metrics.evaluate import evaluate
from burnish.metrics.features import (
    FeatureExtractor,
    Features,
    FidelityExtractor,
    JudgeExtractor,
    known_extractors,
    weights_sha256,
)
from burnish.metrics.reference import Reference, make_reference

__all__ = [
    "FeatureExtractor",
    "Features",
    "FidelityExtractor",
    "JudgeExtractor",
    "Reference",
    "evaluate",
    "known_extractors",
    "make_reference",
    "weights_sha256",
]
