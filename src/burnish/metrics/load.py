"""Feature extractors and references by name or path, shipped ones included."""

from pathlib import Path

from burnish.checkpoint import load_model
from burnish.errors import InputError, unknown
from burnish.files import path_sha256
from burnish.hub import shipped
from burnish.metrics.features import (
    FeatureExtractor,
    FidelityExtractor,
    JudgeExtractor,
    known_extractors,
)

__all__ = ["load_extractor"]


def load_extractor(name: str, device: str = "cpu") -> FeatureExtractor:
    """Load a feature extractor.

    Args:
        name: A shipped judge (``fashion_mnist/plain``), the path of a judge's file, or one of
            torch-fidelity's extractors (``inception-v3-compat``, ``dinov2-vit-l-14``, ...).
        device: Where it works.

    Raises:
        InputError: There is no such extractor, or its weights cannot be had.
    """
    judges = shipped("features")
    if name in judges or name.endswith(".safetensors"):
        path = judges.get(name, Path(name))
        module, card = load_model(path)
        if not hasattr(module, "forward_features"):
            raise InputError(f"{path} is no judge; its network has no feature layer")
        called = f"judge:{card.get('data', '?').split('[')[0]}/{card.get('name', path.stem)}"
        classifies = card.get("classifies", True)
        if not classifies:
            called += " (self-supervised)"
        return JudgeExtractor(
            module.to(device), called, path_sha256(path), classifies, card.get("image_shape")
        )
    if name not in known_extractors():
        raise unknown("feature extractor", name, [*judges, *known_extractors()])
    return FidelityExtractor(name, device=device)
