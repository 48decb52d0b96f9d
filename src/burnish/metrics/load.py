"""Feature extractors by name or path."""

import torch

from burnish.checkpoint import load_model
from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.hub import find, shipped
from burnish.metrics import features


def load_extractor(name: str, device: torch.device | str = "cpu") -> features.FeatureExtractor:
    """Load a feature extractor.

    Args:
        name: A shipped extractor (``fashion_mnist/plain``), the path of a trained one, or one of
            torch-fidelity's (``inception-v3-compat``, ``dinov2-vit-l-14``, ...).
        device: Where it computes.

    Raises:
        InputError: There is no such extractor, or its weights cannot be loaded.
    """
    ours = name in shipped("features") or name.endswith(".safetensors")
    others = () if ours else tuple(features.known_extractors())
    if name in others:
        return features.FidelityExtractor(name, device=device)
    path = find("features", name, others)
    module, card = load_model(path)
    if not hasattr(module, "forward_features"):
        raise InputError(f"{path} is no feature extractor; its network has no feature layer")
    classifies, shape = card.get("classifies", True), card.get("image_shape")
    called = f"{card.get('data', '?').split('[')[0]}/{card.get('name', path.stem)}"
    called += "" if classifies else " (self-supervised)"
    module = module.to(device)
    return features.NetworkExtractor(module, called, path_sha256(path), classifies, shape)
