"""Models to and from the Hugging Face hub, or a folder in its layout; the bytes stay the same."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.checkpoint import load_model
from burnish.errors import InputError, shown
from burnish.files import check_target, path_sha256, read_json, write_aside, write_text
from burnish.generators.latent import Network
from burnish.generators.load import load_generator
from burnish.guide.card import check_card
from burnish.guide.hub_files import Kind, Number, push, readme, write_config
from burnish.guide.importers.registry import KNOWN
from burnish.hub import WEIGHTS, fetch_repository, shipped, weights_of
from burnish.metrics.metric import METRICS
from burnish.networks.residual import Residual

KEPT = (".json", ".safetensors")
MOST_FILES = 100


def push_model(
    source: str, repo_id: str, *, evaluations: Sequence[Path] = (), license: str = "",
    folder: Path | None = None, private: bool = False, force: bool = True,
) -> str:  # fmt: skip
    """Upload a model of ours with its model card.

    Args:
        source: A ``.safetensors`` file, or a folder in the hub's layout.
        repo_id: ``owner/name``; created if there is none.
        evaluations: Files of ``burnish evaluate --json``, whose numbers the model card gives.
        license: Of the weights; without it, what their card says.
        folder: Write the files there, and upload nothing.
        private: Whether a new repository is hidden from others.
        force: Whether the files in ``folder`` may be replaced.

    Returns:
        The address of the commit, or the folder.

    Raises:
        InputError: It is no such model, or the hub cannot be reached or refuses.
    """
    path = _local(source)
    kind, card = examine(path)
    numbers = [number for one in evaluations for number in numbers_of(one)]
    library = "diffusers" if (path / "model_index.json").exists() else "burnish"

    def write(target: Path) -> None:
        if path.is_file():
            shutil.copyfile(path, target / WEIGHTS)
            write_config(target, card)
        else:
            _copy(path, target, follow=False)
        write_text(target / "README.md", readme(kind, card, repo_id, numbers, license, library))

    if folder is None:
        return push(write, repo_id, private, commit_message=f"Upload a {kind} of burnish")
    if folder.exists() and not (force and (folder / "README.md").exists()):
        raise InputError(f"{folder} exists already; choose another name, or --force to replace it")
    check_target(folder / "README.md", path)
    with write_aside(folder) as aside:
        aside.mkdir()
        write(aside)
    return str(folder)


def pull_model(name: str, out: Path, *, sha256: str = "", force: bool = True) -> str:
    """Fetch a model of ours and write it where it is wanted.

    Args:
        name: A hub id, a folder in the hub's layout, or a shipped name.
        out: A ``.safetensors`` file; of a generator with a U-Net, a folder.
        sha256: What its file, or all files of its folder, must have; empty if not known.
        force: Whether ``out`` may be replaced.

    Returns:
        What it is: guide, generator, features or refiner.

    Raises:
        InputError: There is no such model here or there, it is none of ours, or has another hash.
    """
    if name in KNOWN:
        raise InputError(
            f"{name} is a checkpoint of others; burnish import {name} makes it a guide"
        )
    path = _local(name, fetch=True)
    kind, _ = examine(path)
    if path.is_file() != (out.suffix == ".safetensors"):
        wanted = "the name of a .safetensors file" if path.is_file() else "a new folder"
        raise InputError(f"{name} is a {kind}; --out must be {wanted}, not {out}")
    check_target(out, path, force=force)
    if out.is_dir() and not (force and (out / "card.json").exists()):
        raise InputError(f"{out} exists already; choose another name, or --force to replace it")
    with write_aside(out) as aside:
        if path.is_file():
            shutil.copyfile(path, aside)
        else:
            aside.mkdir()
            _copy(path, aside)
        if sha256 and (found := path_sha256(aside)) != sha256.lower():
            raise InputError(f"{name} has the SHA-256 {found}, not {sha256}; nothing was written")
    return kind


def examine(path: Path) -> tuple[Kind, dict[str, Any]]:
    """Return what kind of model a file or folder holds, and its card; all of it is read.

    Raises:
        InputError: It is no model of ours, or a broken one.
    """
    if path.is_dir():
        if not any((path / one).exists() for one in ("model_index.json", "unet", WEIGHTS)):
            raise InputError(f"{path} holds neither {WEIGHTS} nor the files of a generator")
        return "generator", load_generator(path).card
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path}: models of burnish are .safetensors; burnish import reads others"
        )
    network, card = load_model(path)
    if isinstance(network, Network):
        return "generator", card
    if isinstance(network, Residual):
        return "refiner", card
    if not card.get("classifies", True) or card.get("kind") == "feature extractor":
        return "features", card
    check_card(card, f"the card in {path}")
    return "guide", card


def numbers_of(path: Path) -> list[Number]:
    """Return the metrics in a file of ``burnish evaluate --json``.

    Raises:
        InputError: It is no such file.
    """
    values = read_json(path)
    extractor, count = values.get("feature_extractor"), values.get("num_images")
    found = [(one, values[one.key]) for one in METRICS if isinstance(values.get(one.key), float)]
    if not found or not isinstance(extractor, str) or not isinstance(count, int):
        raise InputError(f"{path} holds no metrics; burnish evaluate --json writes such files")
    data = str(values.get("reference", "not stated"))
    return [
        Number(data, one.key, f"{one.title} by {extractor}, {count} images", value)
        for one, value in found
    ]


def _local(name: str, fetch: bool = False) -> Path:
    """Return the file or folder that a name stands for; the hub is asked only to ``fetch``."""
    known: Mapping[str, Path] = {**shipped("features"), **shipped("generator"), **shipped("guide")}
    if name in known:
        return known[name]
    if not name or len(name) > 4000 or not name.isprintable():
        raise InputError(f"no model {shown(name)}: that is no name of a file")
    path = Path(name)
    if path.exists():
        return weights_of(path)
    if not fetch:
        raise InputError(f"no model at {name}")
    return weights_of(fetch_repository("model", name, ["*.json", "*.safetensors"]))


def _copy(source: Path, target: Path, follow: bool = True) -> None:
    """Copy a generator's files of settings and weights; code and anything else stay behind.

    What is uploaded is not what links lead to outside of the folder (``follow``), which may be
    secrets. The hub's cache consists of such links.
    """
    found = [one for one in sorted(source.rglob("*")) if one.suffix in KEPT and one.is_file()]
    if len(found) > MOST_FILES:
        raise InputError(f"{source} holds {len(found)} files, unlike a generator")
    inside = source.resolve()
    for one in found:
        if not follow and not one.resolve().is_relative_to(inside):
            raise InputError(f"{one} is a link that leads out of the folder; put a copy there")
        place = target / one.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one, place)
