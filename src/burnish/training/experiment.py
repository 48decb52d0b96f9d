"""Experiments: one YAML file describes a data set and everything that is trained on it."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from burnish.documents import load_yaml
from burnish.errors import InputError, shown
from burnish.refinement.settings import RefineSettings
from burnish.schema import Range, check, read
from burnish.training import config

# Of experiments and what is trained: one folder each, never a way out of --out.
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class DataConfig:
    """Real images."""

    source: str = "digits"
    """A name (digits, fashion_mnist, cifar10), or a path or pattern of images with labels."""
    train: str = "0-49999"
    """Rows that networks are trained on: 0-999, every 10, not every 10, or empty for all."""
    validation: str = "50000-59999"
    """Rows that settings are chosen on."""
    on_disk: bool = False
    """Read each image when its turn comes instead of keeping all in memory; for joint training."""
    size: Annotated[int, Range(0, 4096)] = 0
    """With on_disk, side to which center_crop brings all images; 0 if they have one size."""
    num_workers: Annotated[int, Range(0, 256)] = 2
    """With on_disk or changes at random, processes that prepare batches, per training process."""

    def __post_init__(self) -> None:
        check(self)
        if self.size and not self.on_disk:
            raise InputError("data: size is for images on disk; set on_disk: true")


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
    from burnish.networks.build import check_network

    experiment = read(Experiment, load_yaml(path), str(path))
    joint = experiment.joint
    refine = read(RefineSettings, joint.refine, f"{path}: joint: refine")
    attacks = {"real_attack": joint.real_attack, "generated_attack": joint.generated_attack}
    for section, settings in {**attacks, "refine": refine}.items():
        try:
            objective_of(settings.objective)
        except InputError as error:
            raise InputError(f"{path}: joint: {section}: {error}") from error
    experiment = replace(experiment, name=experiment.name or path.stem)
    others = [experiment.consistency.teacher.of, *joint.generated_by]
    for name in (experiment.name, *experiment.features, *filter(None, others)):
        if not NAME.fullmatch(name):
            raise InputError(
                f"{path}: the name {shown(name)} must be that of a folder: letters, digits, ., _ "
                "and -, not beginning with ., 100 at most"
            )
    networks = {f"features: {name}": one.network for name, one in experiment.features.items()}
    for place, network in {**networks, "joint": joint.network}.items():
        check_network(network, f"{path}: {place}")
    return experiment


def check_data(source: str) -> None:
    """Refuse a path of real images that is a device or a pipe, which would never end.

    Nothing is said of names, patterns and paths that are not there: they are looked for later.
    """
    path = Path(source)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{shown(source)} is a device or a pipe; write its content to a file")
