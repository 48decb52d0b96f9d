"""Train what an experiment describes: from a word of the command line to recipes."""

import importlib
from pathlib import Path

from burnish.errors import InputError, unknown
from burnish.files import check_target
from burnish.training.experiment import Experiment

# Each but "all" has a module in recipes, which is imported when it is needed.
WORDS = ("features", "consistency", "generator", "joint", "self-distillation", "all")


def train(
    what: str,
    experiment: Experiment,
    *,
    data: str = "",
    out: Path = Path("runs"),
    only: str = "",
    device: str = "cpu",
) -> list[Path]:
    """Train networks; the same call again resumes, and returns at once when all are finished.

    Args:
        what: One of :data:`WORDS`. ``all`` trains features, the generator (that of the section
            ``generator`` where there is one, else the consistency model) and the joint model.
        experiment: What they are made of.
        data: Where the real images are, if not where the experiment says.
        out: Folder of runs; this one goes to ``OUT/NAME``.
        only: Train only the feature extractor of this name.
        device: Where to train.

    Returns:
        The files or folders of the finished models.
    """
    words = resolve(what, experiment, out, only)
    from burnish.training.recipes.task import Task
    from burnish.training.run import Run, plain_name

    task = Task(experiment, Run(out / plain_name(experiment.name)), data, only, device)
    modules = [f"burnish.training.recipes.{word.replace('-', '_')}" for word in words]
    return [path for name in modules for path in importlib.import_module(name).train(task)]


def resolve(what: str, experiment: Experiment, out: Path, only: str = "") -> list[str]:
    """Return the recipes that a word stands for, each one of :data:`WORDS`.

    Raises:
        InputError: The word, or the feature extractor ``only``, is unknown, or the folder of the
            run cannot be written.
    """
    if what not in WORDS:
        raise unknown("training", what, WORDS)
    generator = "generator" if experiment.generator else "consistency"
    words = ["features", generator, "joint"] if what == "all" else [what]
    if only and "features" not in words:
        raise InputError(f"--only names a feature extractor; it does not go with {what}")
    if only and only not in experiment.features:
        raise unknown("feature extractor", only, experiment.features)
    check_target(out / experiment.name / "config.json")
    return words
