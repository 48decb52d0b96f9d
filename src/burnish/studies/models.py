"""The models that commands take by name: shipped ones, those in caches, and known ones."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.documents import load_json
from burnish.errors import InputError, shown, unknown
from burnish.files import path_sha256
from burnish.hub import SHIPPED, Kind, known_sha256, shipped, weights_of
from burnish.studies.known import CLIPS, FEATURES, GENERATORS, Model, features

LICENSE = "Apache-2.0"  # of all that ships
# From docs/results-summary.md and the READMEs of the weights, where the commands are.
REACHED = {
    ("generator", "cifar10"): "FID by Inception 113.1 (10,000 images)",
    ("guide", "cifar10"): "FID by Inception 113.1 -> 83.2 on images of the generator cifar10",
    ("guide", "cifar10-damage"): "FID by Inception 44.3 -> 42.9 on images of Stable Diffusion",
    ("guide", "cifar10-robust"): "FID by Inception 113.1 -> 105.6 on images of cifar10",
    ("generator", "fashion_mnist"): "FID by fashion_mnist/plain 4.06 ± 0.13 (2,000 images)",
    ("guide", "fashion_mnist"): "FID by fashion_mnist/plain 4.06 -> 1.61 on images of the "
    "generator fashion_mnist",
}
SIZES = {"CIFAR-10": 32, "ImageNet": 224}


def list_models() -> list[Model]:
    """Return all models, shipped ones first, then what is in the caches, then known ones."""
    return [*_shipped(), *_cached(), *_known()]


def find_model(name: str) -> Model:
    """Return one model with its whole card: a name of :func:`list_models`, a file or a folder.

    Raises:
        InputError: There is none, or the file is none of ours.
    """
    rows = list_models()
    found = [row for row in rows if row.name == name]
    if found:
        if len(found) == 1:
            return found[0]
        cards = {f"{row.kind} ({row.where})": dataclasses.asdict(row) for row in found}
        return dataclasses.replace(found[0], card=cards)
    if not name.isprintable() or not name or len(name) > 4000:
        raise InputError(f"no model {shown(name)}: that is no name")
    if not Path(name).exists():
        raise unknown("model", name, dict.fromkeys(row.name for row in rows))
    from burnish.studies.share import examine

    path = weights_of(Path(name))
    kind, card = examine(path)
    return Model(
        name, kind, "cached", str(card.get("kind", "")), _size(card),
        str(card.get("license") or "not stated"), _reached(card), str(path),
        sha256={path.name: path_sha256(path)}, card=card,
    )  # fmt: skip


def _shipped() -> Iterator[Model]:
    kinds: tuple[Kind, ...] = ("guide", "generator", "features")
    uses = {
        "guide": "burnish refine samples.npz --guide {} --out refined.npz",
        "generator": "burnish sample {} --seeds 0-999 --out samples.npz",
        "features": "burnish evaluate samples.npz --reference {}",
    }
    for kind in kinds:
        for name, path in shipped(kind).items():
            card = load_json(path / "card.json") if path.is_dir() else _header(path)
            hashes = {
                str(one.relative_to(SHIPPED)): sha256 for one, sha256 in known_sha256(path).items()
            }
            yield Model(
                name, kind, "shipped", str(card.get("kind", kind)), _size(card, path), LICENSE,
                REACHED.get((kind, name)) or _reached(card), str(path), uses[kind].format(name),
                hashes, card,
            )  # fmt: skip


def _cached() -> Iterator[Model]:
    """Yield what lies in the caches of the hub and of torch; nothing of it is read but names."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, OSError, ValueError):
        repositories = frozenset()
    for one in sorted(repositories, key=lambda one: one.repo_id):
        if one.repo_type != "model":
            continue
        files = {file.file_name: file.file_path for rev in one.revisions for file in rev.files}
        kind, use = _kind_of(one.repo_id, set(files))
        yield Model(
            one.repo_id, kind, "cached", license="see its page", source=str(one.repo_path),
            use=use, sha256=_hub_hashes(files),
        )  # fmt: skip
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    for path in sorted((home / "hub" / "checkpoints").glob("*.pt*")):
        if path.is_file() and path.name.isprintable():
            yield Model(path.name, "weights", "cached", source=str(path))


def _kind_of(name: str, files: set[str]) -> tuple[str, str]:
    if "model_index.json" in files:
        return "generator", f"burnish sample {name} --out samples.npz"
    if "open_clip_config.json" in files:
        return "guide", f"burnish refine samples.npz --guide clip/{name} --prompts classes.txt"
    if {"model.safetensors", "config.json"} <= files:
        return "weights", f"burnish pull {name} --out FILE, if it is one of burnish"
    return "weights", ""


def _hub_hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of large files, which the hub's cache names their blobs by."""
    blobs = {name: os.path.basename(os.path.realpath(path)) for name, path in files.items()}
    return {name: blob for name, blob in sorted(blobs.items()) if len(blob) == 64}


def _known() -> Iterator[Model]:
    from burnish.guide.importers.registry import KNOWN
    from burnish.metrics.backbones import BACKBONES

    yield from CLIPS
    for one in KNOWN.values():
        accuracy = "" if one.accuracy is None else f"accuracy {one.accuracy:.2%} (published)"
        name = one.name if one.where.startswith(f"{one.family}/") else f"FILE --as {one.name}"
        yield Model(
            one.name, "guide", "known", f"classifier of {one.data}, trained against {one.threat}",
            SIZES.get(one.data), one.license, accuracy, one.where,
            f"burnish import {name} --out guide.safetensors",
            {Path(one.where).name: one.sha256} if one.sha256 else {}, dataclasses.asdict(one),
        )  # fmt: skip
    yield from GENERATORS
    yield from FEATURES
    for name, one in BACKBONES.items():
        for resizer in one.resizers:
            yield features(f"{name}:{resizer}", one.side, f"{one.repository} of the hub")


def _header(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["card"])


def _size(card: Mapping[str, Any], path: Path | None = None) -> int | None:
    shape = card.get("image_shape")
    if shape is None and path is not None and path.is_dir():
        return load_json(path / "unet" / "config.json").get("sample_size")
    sizes = {"fashion_mnist": 28, "cifar10": 32}
    return shape[1] if shape else sizes.get(str(card.get("data", "")).partition("[")[0])


def _reached(card: Mapping[str, Any]) -> str:
    validation, origin = card.get("validation") or {}, card.get("origin") or {}
    for name in ("accuracy_clean", "accuracy"):
        if isinstance(value := validation.get(name), float):
            return f"accuracy {value:.1%} (validation images)"
    if isinstance(value := origin.get("accuracy"), float):
        return f"accuracy {value:.2%} (published)"
    return ""
