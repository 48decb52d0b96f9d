"""A study: what is asked of whom about which images, frozen before the first vote.

The folder of a study holds

* ``study.json``: everything that was decided, with a SHA-256 of all of it, images included
* ``images/``: PNG under random names
* ``answers.jsonl``: one line per vote, only ever appended to
* ``refused.log``: requests that the server refused
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from burnish.documents import load_json
from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.schema import plain, read

FORMAT = "burnish-survey-1"
# Of images and raters: 128 random bits, so that nobody guesses one.
NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Trial:
    """Two images side by side."""

    kind: Literal["practice", "pair", "catch"]
    item: str
    """Id or name of the image, the same for all systems."""
    label: int | None
    left: str
    """The system of the left image."""
    right: str
    images: tuple[str, ...]
    """Names of the left and the right image."""
    spoiled: Literal["left", "right", "none"] = "none"
    """The side that was spoiled, of a catch trial."""


@dataclass(frozen=True)
class Rater:
    """A place in the study."""

    token: str
    """Whoever knows it votes in this place."""
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Rules:
    """Whose votes count; fixed before the first vote."""

    min_catch_share: float
    min_seconds: float
    min_answered: float


@dataclass(frozen=True)
class Study:
    """A frozen study.

    Args:
        folder: Where it is.
        question: What raters are asked.
        texts: What else they read.
        systems: Their names, in the order given.
        rules: Whose votes count.
        enlargement: Pixels per pixel.
        raters: All places.
        images: SHA-256 of each PNG, by name.
        facts: Settings, sources and versions.
    """

    folder: Path
    question: str
    texts: dict[str, str]
    systems: tuple[str, ...]
    rules: Rules
    enlargement: int
    raters: tuple[Rater, ...]
    images: dict[str, str]
    facts: dict[str, Any]

    def values(self) -> dict[str, Any]:
        """Return what ``study.json`` holds; its SHA-256 is of JSON with sorted keys, no spaces."""
        values = {"format": FORMAT, **{k: v for k, v in plain(self).items() if k != "folder"}}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return {**values, "sha256": hashlib.sha256(text.encode()).hexdigest()}

    def image(self, name: str) -> Path:
        """Return the file of an image."""
        return self.folder / "images" / f"{name}.png"

    @property
    def answers(self) -> Path:
        """The file of the votes."""
        return self.folder / "answers.jsonl"


def load_study(folder: Path, images: bool = False) -> Study:
    """Read a study and check that nothing in it was changed.

    Args:
        folder: The folder of the study.
        images: Whether to check the images, too.

    Raises:
        InputError: There is none, or it is not as it was made.
    """
    path = Path(folder) / "study.json"
    if not path.is_file():
        raise InputError(f"{folder}: no study there; make one with burnish survey make")
    values = load_json(path, scale=200)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise InputError(f"{path}: not a study of this version ({FORMAT})")
    wanted = values.pop("sha256", None)
    study: Study = read(Study, {**values, "folder": str(folder)}, str(path))
    if wanted != study.values()["sha256"]:
        raise InputError(f"{path} was changed after it was made; restore it or make another")
    names = [*study.images, *(rater.token for rater in study.raters)]
    shown = {name for rater in study.raters for trial in rater.trials for name in trial.images}
    if not all(map(NAME.fullmatch, names)) or not shown <= study.images.keys():
        raise InputError(f"{path}: names of images or raters that burnish never gives")
    for name, wanted in study.images.items() if images else ():
        if not study.image(name).is_file() or path_sha256(study.image(name)) != wanted:
            raise InputError(f"{study.image(name)} is missing or was changed; restore it")
    return study
