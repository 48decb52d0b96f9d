"""Guides by name or path: ours, shipped ones, and any classifier of timm or torchvision."""

from pathlib import Path

from burnish.checkpoint import SHIPPED, file_sha256, load_model
from burnish.errors import InputError, unknown
from burnish.guide.model import Guide
from burnish.networks import Decoder, LibraryClassifier

__all__ = ["load_guide", "shipped_guides"]


def shipped_guides() -> list[str]:
    """Return the names of the guides that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/guide.safetensors"))


def load_guide(source: str) -> Guide:
    """Load a guide, in eval mode.

    Args:
        source: The path of a model file of ours; the name of a shipped guide; or
            ``timm/<name>`` or ``torchvision/<name>`` for a pretrained classifier.

    Raises:
        InputError: There is no such guide, or it is a network that does not classify.
    """
    if not source:
        raise unknown("guide", source, [*shipped_guides(), "timm/resnet50", "PATH.safetensors"])
    path = Path(source)
    if source in shipped_guides():
        path = SHIPPED / source / "guide.safetensors"
    elif source.startswith(("timm/", "torchvision/")):
        network = LibraryClassifier(source, pretrained=True)
        return Guide(network, {"name": source, "kind": "classifier"}).eval()
    elif not path.exists() and path.suffix != ".safetensors":
        raise unknown("guide", source, [*shipped_guides(), "timm/resnet50", "PATH.safetensors"])
    if path.is_dir():
        raise InputError(f"{path} is a folder; a guide is one .safetensors file")
    network, card = load_model(path)
    if isinstance(network, Decoder):
        raise InputError(f"{path} is a generator, not a guide")
    if not card.get("classifies", True):
        raise InputError(f"{path} does not classify (it learned without labels), so cannot guide")
    card = {"name": path.stem, **card, "sha256": file_sha256(path)}
    return Guide(network, card, card.get("energy", "logit")).eval()
