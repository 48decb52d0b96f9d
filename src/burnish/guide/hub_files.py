"""A guide as a repository of the Hugging Face hub: weights, config and model card."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.files import write_text

if TYPE_CHECKING:
    from burnish.guide.model import Guide

README = """---
library_name: burnish
license: {license}
tags: [burnish, image-classification, energy-based-model, adversarial-robustness]
---

# {name}

A guide for burnish: a classifier whose gradient refines generated images of shape {shape}.
Load it with `burnish.load_guide` and the id of this repository.

- Kind: {kind}
- Trained on: {data}
- Recommended settings: {settings}

`config.json` holds the whole card.
"""


def write_hub_files(guide: "Guide", folder: Path) -> None:
    """Write ``model.safetensors``, ``config.json`` and ``README.md`` into a folder."""
    if "network" not in guide.card:
        raise InputError(
            "the card of this guide does not say how to rebuild its network; give "
            'Guide(network, card={"network": {"name": ..., arguments}}), see burnish.networks'
        )
    card = {key: value for key, value in guide.card.items() if key != "sha256"}
    card["energy"] = guide.energy_name
    save_model(folder / "model.safetensors", guide.network, card, beside=guide.spectra)
    write_text(folder / "config.json", json.dumps(card, indent=2) + "\n")
    text = README.format(
        name=card.get("name", folder.name),
        license=card.get("license", "unknown"),
        shape=card.get("image_shape", "that its network takes"),
        kind=card.get("kind", "classifier"),
        data=card.get("data", "not stated"),
        settings=card.get("refine") or "none; use burnish tune",
    )
    write_text(folder / "README.md", text)


def push(guide: "Guide", repo_id: str, **options: Any) -> str:
    """Create a repository if there is none and upload the guide; return its address."""
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        write_hub_files(guide, Path(folder))
        api = HfApi()
        api.create_repo(repo_id, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, **options))
