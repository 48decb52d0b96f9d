"""The commands that make an image of a pair again."""

import dataclasses
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from burnish.errors import InputError, shown
from burnish.files import card_path, path_sha256, read_json
from burnish.guide.load import LIBRARIES
from burnish.hub import find, shipped
from burnish.refinement.learned import FREE, LEARNED, beside
from burnish.refinement.presets import PRESETS
from burnish.refinement.settings import RefineSettings
from burnish.report.pairs import Pairs, tiles_of_card
from burnish.schema import plain, read

# Stands for the id of the image; the page fills it in.
ID = "{id}"


def guide_source(card: dict[str, Any]) -> str | None:
    """Return the name of the shipped guide of a card, known by the hash of its file; None if none.

    What a card names otherwise is not loaded: a card is no reason to fetch a network.
    """
    guide = card.get("guide")
    sha256 = guide.get("sha256") if isinstance(guide, dict) else None
    found = (one for one, path in shipped("guide").items() if path_sha256(path) == sha256)
    return next(found, None) if sha256 else None


def refiner_source(pairs: Pairs, guide: str | None) -> str:
    """Return the file of the learned refiner of a card, known by its hash; empty if there is none.

    It is looked for where the card says, beside the refined images, and beside the guide.

    Raises:
        InputError: The card names one, and it is in none of these places.
    """
    name, sha256 = pairs.card.get("refiner"), pairs.card.get("refiner_sha256")
    if not name:
        return ""
    places: list[Path] = []
    if guide and Path(guide).parts[0] not in LIBRARIES:
        with suppress(InputError):
            places.append(beside(find("guide", guide)))
    if name != LEARNED:
        named = Path(str(name))
        places[:0] = [named, pairs.after.path.parent / named.name]
    for path in places:
        with suppress(OSError, ValueError):  # of a name that no file can have
            if path.is_file() and path_sha256(path) == sha256:
                return str(path)
    raise InputError(
        "These images were made by one pass of a learned refiner, and its file, "
        f"{shown(name)}, is not here or is another one."
    )


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
    source, notes = guide or _named_guide(card), []
    if not source:
        source = "GUIDE"
        notes.append("Put the file of the guide for GUIDE.")
    flags = []
    if card.get("refiner"):
        try:
            refiner = refiner_source(pairs, guide)
        except InputError as error:
            refiner = str(card["refiner"])
            if guide or refiner != LEARNED:
                notes.append(str(error))
        flags = ["--refiner", refiner, *_free_flags(settings)]
    else:
        flags = _setting_flags(settings, card)
    sampled = _sampling(pairs) if _is_of_one(card) else None
    if not sampled:
        notes.append(f"This refines all images again; this one has the id {ID}.")
    start = "one.npz" if sampled else str(pairs.before.path)
    refine = ["burnish", "refine", start, "--guide", source, *flags, *_job_flags(card)]
    lines = [sampled] if sampled else []
    return {
        "lines": [*lines, shlex.join([*refine, "--out", "again.npz"])],
        "note": " ".join(notes),
    }


def _named_guide(card: dict[str, Any]) -> str:
    """Return the name of a guide of another library; empty for any other."""
    guide = card.get("guide")
    name = str(guide.get("name", "")) if isinstance(guide, dict) else ""
    return name if name.partition("/")[0] in LIBRARIES else ""


def _is_of_one(card: dict[str, Any]) -> bool:
    """Return whether an image alone is refined as it was among the others."""
    own = card.get("own_labels")
    labels = card.get("labels") in ("given", "pseudo") and (not own or str(own).isdecimal())
    return labels and not tiles_of_card(card)


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
    return flags + _flags({k: value for k, value in wanted.items() if value != given[k]})


def _free_flags(settings: RefineSettings) -> list[str]:
    """Return the flags of what a learned refiner leaves open; the rest is in its file."""
    values = plain(settings)
    return _flags({name: values[name] for name in FREE if values[name] is not None})


def _flags(values: dict[str, Any]) -> list[str]:
    flags = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", str(value)]
    return flags


def _job_flags(card: dict[str, Any]) -> list[str]:
    flags = _flags(tiles_of_card(card))
    if card.get("own_labels"):
        flags += ["--labels", str(card["own_labels"])]
    elif card.get("labels") in ("pseudo", "balanced", "quotas"):
        flags += ["--labels", card["labels"]]
    if card.get("precision") in ("float32", "bfloat16"):
        flags += ["--precision", card["precision"]]
    if isinstance(card.get("batch_size"), int):
        flags += ["--batch-size", str(card["batch_size"])]
    return [*flags, "--compile", "always" if card.get("compile") else "never"]
