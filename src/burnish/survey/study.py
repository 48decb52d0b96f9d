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
from typing import Annotated, Any, Literal

from burnish.documents import load_json
from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.schema import Range, plain, read
from burnish.survey.language import load_texts

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
    images: tuple[str, str]
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

    min_catch_share: Annotated[float, Range(0, 1)]
    min_seconds: Annotated[float, Range(0, 60)]
    min_answered: Annotated[float, Range(0, 1)]


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
    enlargement: Annotated[int, Range(1, 1024)]
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
    _check(study, path)
    names = [*study.images, *(rater.token for rater in study.raters)]
    shown = {name for rater in study.raters for trial in rater.trials for name in trial.images}
    if not all(map(NAME.fullmatch, names)) or not shown <= study.images.keys():
        raise InputError(f"{path}: names of images or raters that burnish never gives")
    for name, wanted in study.images.items() if images else ():
        if not study.image(name).is_file() or path_sha256(study.image(name)) != wanted:
            raise InputError(f"{study.image(name)} is missing or was changed; restore it")
    return study


def _check(study: Study, path: Path) -> None:
    """Refuse what has the form of a study, but is none that burnish makes."""
    systems, classes = set(study.systems), study.facts.get("classes") or []
    trials = [trial for rater in study.raters for trial in rater.trials]
    wanted = {
        "two or more systems, each with its own name": 1 < len(systems) == len(study.systems),
        "raters, each with its own token": 0
        < len({one.token for one in study.raters})
        == len(study.raters),
        "trials for each rater": all(rater.trials for rater in study.raters),
        "trials of known systems": all({one.left, one.right} <= systems for one in trials),
        "pairs of two systems": all(
            one.left != one.right or one.kind == "catch" for one in trials
        ),
        "a question and all texts": bool(study.question.strip())
        and load_texts("en").keys() <= {"question", *study.texts},
        "names of classes": isinstance(classes, list) and all(isinstance(c, str) for c in classes),
    }
    for what, found in wanted.items():
        if not found:
            raise InputError(f"{path}: a study has {what}; restore it or make another")
