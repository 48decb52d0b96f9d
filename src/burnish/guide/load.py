"""Guides by name, path or hub id: shipped ones, your own, or classifiers of other libraries."""

import os
from pathlib import Path

from burnish.checkpoint import load_beside, load_model
from burnish.errors import InputError, shown
from burnish.files import path_sha256
from burnish.guide.card import check_card
from burnish.guide.model import Guide
from burnish.hub import find
from burnish.networks.gaussian import Gaussian
from burnish.networks.latent import Decoder

LIBRARIES = ("timm", "torchvision")


def load_guide(source: str | Path) -> Guide:
    """Load a guide, in eval mode.

    Args:
        source: The name of a shipped guide (``cifar10``); a ``.safetensors`` file of ours; a
            folder or a hub id (``owner/name``) with what :meth:`Guide.save_pretrained` writes; or
            ``timm/<name>`` or ``torchvision/<name>`` for a pretrained classifier; or
            ``clip/<model>@<file of prompts>``, see :func:`burnish.guide.text.load_text_guide`.

    Raises:
        InputError: There is no such guide, or it is a network that does not classify.
    """
    name = str(source)
    if name.partition("/")[0] in LIBRARIES and "/" in name and not Path(name).exists():
        from burnish.networks.pretrained import PretrainedClassifier

        network = PretrainedClassifier(name, pretrained=True)
        return Guide(network, {"name": name, "kind": "classifier"}).eval()
    if name.startswith("clip/") and not Path(name).exists():
        from burnish.guide.text import load_text_guide

        return load_text_guide(name)
    if "," in name and not os.path.exists(name):
        raise InputError(
            f"{shown(name)}: name one guide here; burnish refine and tune choose among several"
        )
    path = find("guide", name, ("timm/resnet50", "torchvision/resnet50"))
    if path.is_dir():
        raise InputError(f"{path} is a folder without model.safetensors, so no guide")
    network, card = load_model(path)
    if isinstance(network, Decoder | Gaussian):
        raise InputError(f"{path} is a generator, not a guide")
    if not card.get("classifies", True):
        raise InputError(f"{path} does not classify (it learned without labels), so cannot guide")
    check_card(card, f"the card in {path}")
    card = {"name": path.stem, **card, "sha256": path_sha256(path)}
    return Guide(network, card, card.get("energy", "logit"), load_beside(path)).eval()
