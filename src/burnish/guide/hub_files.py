"""Models as repositories of the Hugging Face hub: weights, config and model card.

A repository holds ``model.safetensors``, ``config.json`` with the whole card, and ``README.md``
with what the hub's search reads: license, task, library and numbers (its model-index). Generators
with a U-Net keep the files of diffusers instead of the first two.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from burnish.checkpoint import save_model
from burnish.errors import InputError, shown
from burnish.files import write_text
from burnish.hub import HUB_ID, WEIGHTS

if TYPE_CHECKING:
    from burnish.guide.model import Guide

Kind = Literal["guide", "generator", "features", "refiner"]
# The hub's name of the task, and what to do with such a model here.
TASKS = {"guide": "image-classification", "generator": "unconditional-image-generation",
         "features": "image-feature-extraction", "refiner": "image-to-image"}  # fmt: skip
USES = {
    "guide": "burnish refine samples.npz --guide {repo} --out refined.npz",
    "generator": "burnish sample {repo} --seeds 0-999 --out samples.npz",
    "features": "burnish evaluate samples.npz --reference real.npz --features {repo}",
    "refiner": "burnish pull {repo} --out refiner.safetensors",
}
WHAT = {
    "guide": "a classifier whose gradient refines generated images",
    "generator": "a generator of images",
    "features": "a feature extractor, by which images are compared",
    "refiner": "a network that refines images in one pass",
}
# Of those that the hub has a short name for.
LICENSES = ("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0",
            "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc0-1.0", "openrail")  # fmt: skip


class Number(NamedTuple):
    """One number that a model reached."""

    data: str
    """The images that it was measured on."""
    key: str
    """``accuracy``, ``fid``, ..."""
    title: str
    value: float


def readme(
    kind: Kind, card: Mapping[str, Any], repo_id: str, numbers: Sequence[Number] = (),
    license: str = "", library: str = "burnish",
) -> str:  # fmt: skip
    """Return the model card of a repository, as the hub reads it."""
    from huggingface_hub import EvalResult, ModelCardData

    name = str(card.get("name") or repo_id.rpartition("/")[2])
    license = license or str(card.get("license") or "not stated")
    known = license.lower() in LICENSES
    results = [
        EvalResult(
            task_type=TASKS[kind], dataset_type=one.data, dataset_name=one.data,
            metric_type=one.key, metric_name=one.title, metric_value=one.value,
        )
        for one in (*_numbers_of(card), *numbers)
    ]  # fmt: skip
    data = ModelCardData(
        license=license.lower() if known else "other",
        license_name=None if known else license,
        library_name=library, pipeline_tag=TASKS[kind], tags=["burnish", kind],
        model_name=name, eval_results=results or None,
    )  # fmt: skip
    lines = [
        f"- Kind: {card.get('kind', kind)}",
        f"- Images: {card.get('image_shape', 'as its network takes or makes')}",
        f"- Trained on: {card.get('data') or 'not stated'}",
        f"- License: {license}",
    ]
    if kind == "guide":
        lines.append(f"- Recommended settings: {card.get('refine') or 'none; use burnish tune'}")
    if origin := card.get("origin"):
        lines.append(f"- Origin: {json.dumps(origin)}")
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {name}\n\nFor burnish: {WHAT[kind]}.\n\n"
        f"    {USES[kind].format(repo=repo_id)}\n\n" + "\n".join(lines) + "\n"
    )


def _numbers_of(card: Mapping[str, Any]) -> list[Number]:
    """Return what a card says that its model reached."""
    found, validation, origin = [], card.get("validation"), card.get("origin")
    if isinstance(validation, Mapping):
        data = str(validation.get("data") or f"validation images of {card.get('data', '?')}")
        for name in ("accuracy", "accuracy_clean", "auc_clean"):
            if isinstance(value := validation.get(name), float):
                key = name.removesuffix("_clean")
                found.append(Number(data, key, name.replace("_", ", "), value))
    if isinstance(origin, Mapping):
        data = str(card.get("data") or "not stated")
        if isinstance(value := origin.get("accuracy"), float):
            found.append(Number(data, "accuracy", "accuracy, as published by the authors", value))
        measured = origin.get("measured")
        if isinstance(measured, Mapping) and isinstance(measured.get("accuracy"), float):
            what = f"accuracy, measured on {measured.get('images')} images"
            found.append(Number(str(measured["data"]), "accuracy", what, measured["accuracy"]))
    return found


def write_hub_files(guide: "Guide", folder: Path, repo_id: str = "") -> None:
    """Write ``model.safetensors``, ``config.json`` and ``README.md`` of a guide into a folder."""
    if "network" not in guide.card:
        raise InputError(
            "the card of this guide does not say how to rebuild its network; give "
            'Guide(network, card={"network": {"name": ..., arguments}}), see burnish.networks'
        )
    card = {key: value for key, value in guide.card.items() if key != "sha256"}
    card["energy"] = guide.energy_name
    save_model(folder / WEIGHTS, guide.network, card, beside=guide.spectra)
    write_config(folder, card)
    write_text(folder / "README.md", readme("guide", card, repo_id or folder.name))


def write_config(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``config.json``, the card."""
    write_text(folder / "config.json", json.dumps(dict(card), indent=2) + "\n")


def push(
    write: Callable[[Path], None], repo_id: str, private: bool = False, **options: Any
) -> str:
    """Create a repository if there is none and upload what ``write`` puts into a folder.

    Args:
        write: Fills an empty folder.
        repo_id: ``owner/name``.
        private: Whether a new repository is hidden from others.
        options: Passed to ``huggingface_hub.upload_folder``, e.g. ``commit_message``.

    Returns:
        The address of the commit.

    Raises:
        InputError: It is no such name, or the hub cannot be reached or refuses.
    """
    if not HUB_ID.fullmatch(repo_id):
        raise InputError(f"a repository of the hub is OWNER/NAME, not {shown(repo_id)}")
    from huggingface_hub import HfApi, constants

    from burnish.networks import fetched

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        if reason := fetched.unreachable(constants.ENDPOINT):
            raise InputError(
                f"the hub cannot be reached ({reason}); burnish push --folder FOLDER writes the "
                f"files, and 'hf upload {repo_id} FOLDER' sends them from elsewhere"
            )
        hidden: dict[str, Any] = {"private": True} if private else {}
        api = HfApi()
        try:
            api.create_repo(repo_id, exist_ok=True, **hidden)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, **options))
        except Exception as error:  # the hub's own, httpx's and the system's
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"the hub refuses {repo_id}: {reason}; 'hf auth login'?") from error
