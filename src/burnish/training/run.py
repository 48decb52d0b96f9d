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
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from burnish.errors import InputError
from burnish.files import write_aside, write_text


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

        A training that failed before its first saved state has nothing to protect.
        """
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        if self.state.exists() and self.config.exists():
            try:
                before = json.loads(self.config.read_text())
            except ValueError as error:
                raise InputError(
                    f"{self.config} is damaged; delete {self.folder} to begin anew"
                ) from error
            if before != json.loads(text):
                raise InputError(
                    f"{self.folder} holds a run with other settings or data; give another --out "
                    "or delete it"
                )
        write_text(self.config, text)

    def load_state(self, device: torch.device) -> dict[str, Any] | None:
        """Return the saved state, or None if there is none."""
        if not self.state.exists():
            return None
        try:
            return torch.load(self.state, map_location=device, weights_only=True)
        except (EOFError, OSError, RuntimeError, struct.error, pickle.UnpicklingError) as error:
            raise InputError(
                f"{self.state} is damaged; delete it to begin this training anew"
            ) from error

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state whole or not at all."""
        # Given a path, torch would write its name, and so the process's, into the file.
        with write_aside(self.state) as aside, aside.open("wb") as file:
            torch.save(dict(state), file)

    def cut_log(self, step: int) -> None:
        """Drop the lines of the log later than a step; a resumed training writes them again."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        write_text(self.log, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))

    def write_log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append one line to the log."""
        with self.log.open("a") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")


def _step_of(line: str) -> float:
    """Return the step of a line; infinity for half a line, as a killed training may leave one."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


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
        return Stage(self.folder / f"features-{name}")

    def beside(self, name: str) -> "Run":
        """Return the run of another experiment under the same OUT."""
        return Run(self.folder.parent / name)
