"""Folders of trainings: what lies where, whose it is, its log and its saved state.

A run, ``OUT/NAME``, holds everything that one experiment trains, each in a stage of its own:
``features-NAME``, ``generator`` and ``joint`` with a ``model.safetensors``; ``teacher``,
``consistency`` and ``self-distillation`` with a folder ``pipeline``. Every stage has
``config.json`` (the settings and hashes of data that it follows from), ``log.jsonl`` (numbers of
training and validation, one JSON object per line) and ``state.pt`` (what resuming needs).
``generated.npz`` of the run itself are the images of its generator for joint trainings, those of
self-distillation what becomes ``refined.npz``.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from burnish.errors import InputError
from burnish.files import check_target, read_json, write_aside, write_text


class Stage:
    """The folder of one training; its model is one file, ``model``, or a folder, ``pipeline``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model, self.pipeline = folder / "model.safetensors", folder / "pipeline"
        self.generated, self.refined = folder / "generated.npz", folder / "refined.npz"
        self.config, self.log = folder / "config.json", folder / "log.jsonl"
        self.state = folder / "state.pt"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Write the settings of a new training; refuse a folder that holds another one.

        A training that failed before its first saved state has nothing to protect. What is there
        of one that saved is not touched.

        Raises:
            InputError: It is the folder of another training, or of something else.
        """
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        for path in (self.config, self.log, self.state):
            check_target(path)
            if path.is_dir():
                raise InputError(f"{path} is a folder; delete it or give another --out")
        if self.state.exists() or self.model.exists() or self.pipeline.exists():
            try:
                before = read_json(self.config)
            except InputError as error:
                then = f"delete {self.folder} to begin anew"
                raise InputError(f"{self.config} is damaged or lost; {then} ({error})") from error
            if before != json.loads(text):
                raise InputError(
                    f"{self.folder} holds a run with other settings or data; give another --out "
                    "or delete it"
                )
            return
        write_text(self.config, text)

    def load_state(self, device: torch.device) -> dict[str, Any] | None:
        """Return the saved state, or None if there is none.

        Raises:
            InputError: It is damaged, or holds numbers that are not finite.
        """
        if not self.state.exists():
            return None
        try:
            state = torch.load(self.state, map_location=device, weights_only=True)
        except Exception as error:  # bytes that are no state may raise anything
            raise self.damaged(error) from error
        if not isinstance(state, dict):
            raise self.damaged("no state of a training")
        if any(not one.isfinite().all() for one in _tensors(state) if one.is_floating_point()):
            raise self.damaged("numbers that are not finite")
        return state

    def damaged(self, reason: object) -> InputError:
        """Return the error that says what to do about a saved state that is of no use."""
        first = (str(reason).splitlines() or [""])[0][:100]
        return InputError(
            f"{self.state} is damaged ({first}); delete it to begin this training anew"
        )

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state whole or not at all."""
        # Given a path, torch would write its name, and so the process's, into the file.
        with write_aside(self.state) as aside, aside.open("wb") as file:
            torch.save(dict(state), file)

    def cut_log(self, step: int) -> None:
        """Drop the lines of the log later than a step; a resumed training writes them again."""
        if not self.log.exists():
            return
        with write_aside(self.log) as aside, aside.open("w") as kept:
            with self.log.open(errors="replace") as lines:
                kept.writelines(line for line in lines if _step_of(line) <= step)

    def write_log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append one line to the log."""
        with self.log.open("a") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")


def _step_of(line: str) -> float:
    """Return the step of a line; infinity for half a line, as a killed training may leave one."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested dicts and lists."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for part in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _tensors(part)


class Run:
    """The folder of everything that one experiment trains: its stages and ``generated``.

    ``generators`` is where a finished generator may lie; the first that exists is the run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.generated = folder, folder / "generated.npz"
        self.teacher, self.consistency = Stage(folder / "teacher"), Stage(folder / "consistency")
        self.generator, self.joint = Stage(folder / "generator"), Stage(folder / "joint")
        self.self_distillation = Stage(folder / "self-distillation")
        self.generators = self.consistency.pipeline, self.generator.model

    def features(self, name: str) -> Stage:
        """Return the stage of a feature extractor."""
        return Stage(self.folder / f"features-{plain_name(name)}")

    def beside(self, name: str) -> "Run":
        """Return the run of another experiment under the same OUT."""
        return Run(self.folder.parent / plain_name(name))


def plain_name(name: str) -> str:
    """Return a name of a run or of a part of one; refuse one that leads to another folder.

    Raises:
        InputError: It is no plain name.
    """
    if Path(name).name != name or name == ".." or "\0" in name or "\\" in name:
        raise InputError(f"the name {name!r} must be that of a folder, and no path")
    return name
