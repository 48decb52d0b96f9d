"""Experiments: one YAML file describes a data set and everything that is trained on it."""

import dataclasses
from pathlib import Path

from burnish.errors import InputError
from burnish.refinement.settings import RefineSettings
from burnish.schema import load_yaml, read
from burnish.training.config import Experiment

__all__ = ["load_experiment"]


def load_experiment(path: Path) -> Experiment:
    """Read an experiment from YAML; see :func:`burnish.schema.load_yaml` for ``extends``.

    Raises:
        InputError: The file is missing or is not YAML, or a key, an objective or a name is unknown
            or of the wrong type; the message says where and suggests the nearest one.
    """
    from burnish.guide.objectives import objective_of

    experiment = read(Experiment, load_yaml(path), str(path))
    joint = experiment.joint
    refine = read(RefineSettings, joint.refine, f"{path}: joint: refine")
    ascents = {
        "real_attack": joint.real_attack, "generated_attack": joint.generated_attack,
        "refine": refine,
    }  # fmt: skip
    for section, settings in ascents.items():
        try:
            objective_of(settings.objective)
        except InputError as error:
            raise InputError(f"{path}: joint: {section}: {error}") from error
    for name in (experiment.name, *experiment.features):
        if Path(name).name != name or name == "..":
            raise InputError(f"{path}: the name {name!r} must be a plain folder name")
    return dataclasses.replace(experiment, name=experiment.name or path.stem)
