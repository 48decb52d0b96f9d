"""Experiments: one YAML file describes a data set and everything that is trained on it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from burnish.documents import load_yaml
from burnish.errors import InputError
from burnish.refinement.settings import RefineSettings
from burnish.schema import read
from burnish.training import config


@dataclass(frozen=True)
class DataConfig:
    """Real images."""

    source: str = "digits"
    """A name (digits, fashion_mnist, cifar10) or the path of an npz, parquet or image folder."""
    train: str = "0-49999"
    """Rows that networks are trained on."""
    validation: str = "50000-59999"
    """Rows that settings are chosen on."""


@dataclass(frozen=True)
class Experiment:
    """One data set and everything trained on it."""

    name: str = ""
    """Name of the run folder."""
    data: DataConfig = DataConfig()
    features: dict[str, config.FeaturesConfig] = field(default_factory=dict)
    """One entry per feature extractor."""
    consistency: config.ConsistencyConfig = config.ConsistencyConfig()  # noqa: RUF009
    generator: config.GeneratorConfig | None = None
    """A generator of another family; where there is one, train all trains it for the other."""
    joint: config.JointConfig = config.JointConfig()  # noqa: RUF009
    self_distillation: config.SelfDistillationConfig = config.SelfDistillationConfig()  # noqa: RUF009


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
    attacks = {"real_attack": joint.real_attack, "generated_attack": joint.generated_attack}
    for section, settings in {**attacks, "refine": refine}.items():
        try:
            objective_of(settings.objective)
        except InputError as error:
            raise InputError(f"{path}: joint: {section}: {error}") from error
    for name in (experiment.name, *experiment.features):
        if Path(name).name != name or name == "..":
            raise InputError(f"{path}: the name {name!r} must be a plain folder name")
    return replace(experiment, name=experiment.name or path.stem)
