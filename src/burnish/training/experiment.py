"""Experiments: one YAML file describes a data set and everything that is trained on it."""

import dataclasses
from pathlib import Path

from burnish.errors import InputError
from burnish.refine.settings import RefineSettings
from burnish.schema import load_yaml, read
from burnish.training.config import Experiment

__all__ = ["load_experiment"]


def load_experiment(path: Path) -> Experiment:
    """Read an experiment from YAML; see :func:`burnish.schema.load_yaml` for ``extends``.

    Raises:
        InputError: The file is missing or is not YAML, or a key is unknown or of the wrong type;
            the message says where and suggests the nearest key.
    """
    experiment = read(Experiment, load_yaml(path), str(path))
    read(RefineSettings, experiment.joint.refine, f"{path}: joint: refine")
    for name in (experiment.name, *experiment.features):
        if Path(name).name != name or name == "..":
            raise InputError(f"{path}: the name {name!r} must be a plain folder name")
    return dataclasses.replace(experiment, name=experiment.name or path.stem)
