"""The commands that make an image of a pair again."""

import dataclasses
import shlex
from contextlib import suppress
from typing import Any

from burnish.errors import InputError
from burnish.files import card_path, path_sha256, read_json
from burnish.hub import shipped
from burnish.refinement.presets import PRESETS
from burnish.refinement.settings import RefineSettings
from burnish.report.pairs import Pairs
from burnish.schema import plain, read

# Stands for the id of the image; the page fills it in.
ID = "{id}"


def guide_source(card: dict[str, Any]) -> str | None:
    """Return under what name :func:`burnish.load_guide` finds the guide of a card; None if none.

    A shipped guide is known by the hash of its file, one of timm or torchvision by its name.
    """
    guide = card.get("guide")
    if not isinstance(guide, dict):
        return None
    name, sha256 = str(guide.get("name", "")), guide.get("sha256")
    if name.startswith(("timm/", "torchvision/")):
        return name
    found = (one for one, path in shipped("guide").items() if path_sha256(path) == sha256)
    return next(found, None) if sha256 else None


def settings_of_card(card: dict[str, Any]) -> RefineSettings:
    """Return the settings of a card.

    Raises:
        InputError: It has none, or not those of this version.
    """
    if not isinstance(card.get("settings"), dict):
        raise InputError("the card names no settings")
    return read(RefineSettings, card["settings"], "the card's settings")


def commands(pairs: Pairs, guide: str | None) -> dict[str, Any]:
    """Return ``lines`` for a shell, with :data:`ID` for the id, and a ``note``; None for unknown.

    Where the generator ships, the image is made from its seed; else all images of the input are
    refined again.
    """
    card = pairs.card
    try:
        settings = settings_of_card(card)
    except InputError:
        return {"lines": [], "note": "There is no card that says how these images were made."}
    source = guide or "GUIDE"
    flags = [*_setting_flags(settings, card), *_job_flags(card)]
    sampled = _sampling(pairs) if card.get("labels") in ("given", "pseudo") else None
    again = "again.npz"
    start = "one.npz" if sampled else str(pairs.before.path)
    refine = ["burnish", "refine", start, "--guide", source, *flags, "--out", again]
    note = "" if sampled else f"This refines all images again; this one has the id {ID}."
    if not guide:
        note = f"Put the file of the guide for GUIDE. {note}"
    lines = [sampled] if sampled else []
    return {"lines": [*lines, shlex.join(refine)], "note": note.strip()}


def _sampling(pairs: Pairs) -> str | None:
    """Return the command that samples one seed, if a shipped generator made the images before."""
    try:
        card = read_json(card_path(pairs.before.path))
    except InputError:
        return None
    for name, folder in shipped("generator").items():
        if read_json(folder / "card.json") == card.get("generator"):
            steps = card.get("num_steps")
            steps = f" --num-steps {steps}" if isinstance(steps, int) else ""
            return f"burnish sample {shlex.quote(name)} --seeds {ID}{steps} --out one.npz"
    return None


def _setting_flags(settings: RefineSettings, card: dict[str, Any]) -> list[str]:
    """Return the flags that give these settings, whatever the guide recommends."""
    guide = card["guide"] if isinstance(card.get("guide"), dict) else {}
    usual = "joint" if "realness" in guide else "bigroc"
    for preset in (usual, "golan24-pgd", "golan24-sgld", "bigroc"):
        base = PRESETS[preset]
        if preset == "joint" and isinstance(guide.get("refine"), dict):
            with suppress(TypeError, InputError):  # of another version
                base = dataclasses.replace(base, **guide["refine"])
        wanted, given = plain(settings), plain(base)
        # What is None cannot be said on the command line.
        if all(given[name] is None for name, value in wanted.items() if value is None):
            break
    flags = [] if preset == usual else ["--preset", preset]
    for name, value in wanted.items():
        if value == given[name]:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", str(value)]
    return flags


def _job_flags(card: dict[str, Any]) -> list[str]:
    flags = []
    if card.get("labels") in ("pseudo", "balanced", "quotas"):
        flags += ["--labels", card["labels"]]
    if card.get("precision") in ("float32", "bfloat16"):
        flags += ["--precision", card["precision"]]
    if isinstance(card.get("batch_size"), int):
        flags += ["--batch-size", str(card["batch_size"])]
    return [*flags, "--compile", "always" if card.get("compile") else "never"]
