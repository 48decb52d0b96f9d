"""Every default, range and help text: frozen dataclasses read from YAML and from the command line.

Library functions take plain arguments; only the command line unpacks these into them.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from burnish.errors import InputError

__all__ = [
    "AbsorbConfig",
    "AttackConfig",
    "ConsistencyConfig",
    "DataConfig",
    "Experiment",
    "GeneratorConfig",
    "GrowthConfig",
    "JointConfig",
    "JudgeConfig",
    "TeacherConfig",
    "TrainingConfig",
    "ViewsConfig",
]


def at_least(config: Any, name: str, low: float) -> None:
    """Refuse a value below its range.

    Raises:
        InputError: ``config.name`` is below ``low`` or is no number.
    """
    value = getattr(config, name)
    if not value >= low:
        raise InputError(f"{name} must be at least {low}, not {value}")


@dataclass(frozen=True)
class TrainingConfig:
    """One training: length, optimiser, averaging, saving."""

    num_steps: int = 10_000
    """Optimiser steps."""
    batch_size: int = 64
    """Images per step."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    momentum: float = 0.9
    """Decay of AdamW's mean gradient (beta 1); adversaries want 0.5 or less."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from 0."""
    decay: Literal["cosine", "step"] = "cosine"
    """Cosine to 0 over the whole length, or times 0.1 at each milestone."""
    milestones: tuple[int, ...] = ()
    """Steps at which the learning rate drops, with decay: step."""
    gradient_clip: float = 1.0
    """Largest global norm of the gradient."""
    ema_decay: float = 0.999
    """Weight of the old average in one update of the averaged weights."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    """Precision inside the network; weights and optimiser stay float32."""
    channels_last: bool = False
    """Store weights channels-last, faster for plain convolution networks."""
    flip: bool = False
    """Mirror images at random."""
    seed: int = 0
    """Of weights, order and noise."""
    log_every: int = 50
    """Steps between lines of log.jsonl."""
    validate_every: int = 500
    """Steps between validations."""
    save_every: int = 500
    """Steps between saved states."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "log_every", "validate_every", "save_every"):
            at_least(self, name, 1)
        for name in ("weight_decay", "momentum", "warmup_steps", "ema_decay"):
            at_least(self, name, 0)
        if not 0 < self.learning_rate < math.inf or not self.gradient_clip > 0:
            raise InputError("learning_rate, a finite number, and gradient_clip must be above 0")
        if not abs(self.seed) < 2**63:
            raise InputError(f"seed must fit into 64 bits, not {self.seed}")
        for name in ("ema_decay", "momentum"):
            if not getattr(self, name) < 1:
                raise InputError(f"{name} must be below 1, not {getattr(self, name)}")


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
class ViewsConfig:
    """Two random views of each image, to be paired: how a judge learns without labels."""

    min_area: float = 0.2
    """Smallest share of the image that a view shows."""
    jitter: float = 0.4
    """Brightness, contrast and saturation change by up to this share."""
    hue: float = 0.1
    """Colours turn by up to this share of the circle."""
    recolored: float = 0.8
    """Probability of these changes of colour."""
    grey: float = 0.2
    """Probability that a view has no colour."""
    temperature: float = 0.2
    """Of the contrastive loss; lower looks at near misses more."""
    num_projected: int = 64
    """Size of the projection in which views are compared."""

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise InputError(f"min_area must be above 0 and at most 1, not {self.min_area}")
        if not self.temperature > 0:
            raise InputError(f"temperature must be above 0, not {self.temperature}")
        for name in ("jitter", "hue", "recolored", "grey"):
            at_least(self, name, 0)
        at_least(self, "num_projected", 2)


@dataclass(frozen=True)
class JudgeConfig:
    """A network of real images whose features measure distances."""

    network: dict[str, Any] = field(default_factory=lambda: {"name": "judge"})
    """Network name and arguments."""
    task: Literal["labels", "views"] = "labels"
    """What it learns: the class of an image, or, without labels, which two views are of one."""
    views: ViewsConfig = ViewsConfig()
    training: TrainingConfig = TrainingConfig()


@dataclass(frozen=True)
class TeacherConfig:
    """A small diffusion model, to distil from or to start from."""

    of: str = ""
    """The experiment whose teacher it is, trained under the same --out; empty for this one's."""
    training: TrainingConfig = TrainingConfig()
    sigma_mean: float = -1.2
    """Mean of ln(sigma) in training."""
    sigma_std: float = 1.2
    """Standard deviation of ln(sigma) in training."""


@dataclass(frozen=True)
class ConsistencyConfig:
    """A class-conditional consistency model."""

    method: Literal["training", "distillation"] = "distillation"
    """Consistency training (from data) or distillation (from the teacher)."""
    unet: dict[str, Any] = field(default_factory=dict)
    """Arguments of generators.build_unet: widths, layers_per_block, attention, dropout."""
    from_teacher: bool = True
    """Begin with the teacher's weights."""
    teacher: TeacherConfig = TeacherConfig()
    training: TrainingConfig = TrainingConfig()
    sigma_mean: float = -0.8
    """Mean of ln(t) in training."""
    sigma_std: float = 1.8
    """Standard deviation of ln(t) in training."""
    num_stages: int = 6
    """How many times the gap between the two noise levels halves."""
    sigma_max: float = 80.0
    """Noise level at which sampling begins."""
    sigma_data: float = 0.5
    """Standard deviation of the data in [-1, 1]."""

    def __post_init__(self) -> None:
        at_least(self, "num_stages", 1)
        for name in ("sigma_max", "sigma_data"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True)
class GeneratorConfig:
    """A class-conditional VAE, GAN or Gaussian: from latents to images in one step."""

    family: Literal["vae", "gan", "gaussian"] = "gan"
    """Variational autoencoder, generative adversarial network, or the moments of each class."""
    latent_size: int = 128
    """Numbers per latent."""
    widths: tuple[int, ...] = (128, 64, 32)
    """Channels of the decoder at each resolution, the lowest first; each next one doubles."""
    reader_widths: tuple[int, ...] = ()
    """Channels of a VAE's encoder or a GAN's discriminator, full size first; empty: as widths."""
    kl_weight: float = 1.0
    """Of a VAE, factor on the divergence from the prior."""
    noise_std: float | None = None
    """Of a VAE, width of the likelihood in [0, 1] pixel units; null for the best of each batch."""
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        at_least(self, "latent_size", 1)
        at_least(self, "kl_weight", 0)
        if not self.widths or min(*self.widths, *self.reader_widths, 1) < 1:
            raise InputError("widths and reader_widths are numbers of channels, from 1 on")
        if self.noise_std is not None and not self.noise_std > 0:
            raise InputError(f"noise_std must be above 0, not {self.noise_std}")


@dataclass(frozen=True)
class AttackConfig:
    """A projected gradient attack with normalised steps."""

    eps: float = 1.0
    """Radius of the L2 ball in [0, 1] pixel units; .inf for none."""
    step_size: float = 0.5
    """Length of one step, same unit."""
    num_steps: int = 2
    """Steps, at the start of training where they grow."""
    random_start: bool = True
    """Begin at a random point of the ball."""
    objective: Literal["logit", "ce", "logsumexp"] = "logit"
    """What is raised on generated images and lowered on real ones, as in refinement."""

    def __post_init__(self) -> None:
        for name in ("eps", "step_size", "num_steps"):
            at_least(self, name, 0)


@dataclass(frozen=True)
class GrowthConfig:
    """How the attack on generated images gets more steps as training goes on."""

    by: Literal["clock", "auc", "never"] = "auc"
    """One more step every so many iterations, when the model tells real from fake, or never."""
    every: int = 1000
    """Iterations per additional step, by clock; least number between two, by AUC."""
    threshold: float = 0.8
    """Running AUC at which one step is added."""
    max_steps: int = 40
    """No more steps than this."""

    def __post_init__(self) -> None:
        at_least(self, "every", 1)


@dataclass(frozen=True)
class JointConfig:
    """The joint classifier-discriminator."""

    network: dict[str, Any] = field(default_factory=lambda: {"name": "resnet"})
    """Network name and arguments."""
    start_from: str = ""
    """A model file whose weights training starts from; empty for random ones."""
    fakes: str = ""
    """File of generated images; empty to sample generators."""
    fakes_of: tuple[str, ...] = ()
    """Experiments whose generators make the fakes, under the same --out; empty for this one's."""
    num_fakes: int = 20_000
    """How many to sample from each generator, from seed fake_seed on."""
    fake_seed: int = 1_000_000
    """First seed of the fakes, far from any that is reported on."""
    training: TrainingConfig = TrainingConfig()
    energy: Literal["logit", "logsumexp"] = "logit"
    """What the discriminator reads: the logit of the own class, or logsumexp of all."""
    batch_norm: Literal["live", "frozen"] = "live"
    """Batch norm with the batch's statistics in the loss, or with the running ones."""
    real_attack: AttackConfig = AttackConfig()
    fake_attack: AttackConfig = AttackConfig(math.inf, 0.1, 5, False)
    growth: GrowthConfig = GrowthConfig()
    early_stop: bool = True
    """Freeze an attacked fake once it looks more real than the attacked real image beside it."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weight of each term: bce_real, bce_fake, ce_real, ce_fake; 1 where not given."""
    refine: dict[str, Any] = field(default_factory=dict)
    """Settings of refinement that suit this guide; kept in its card as the default of refine."""

    def __post_init__(self) -> None:
        at_least(self, "num_fakes", 1)
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise InputError(f"weights: {name} must be finite and at least 0, not {weight}")


@dataclass(frozen=True)
class AbsorbConfig:
    """The consistency model fine-tuned on its own refined images: refinement at no cost later."""

    num_images: int = 10_000
    """How many to sample and refine."""
    first_seed: int = 2_000_000
    """Seed of the first, far from any that is reported on and from those of the fakes."""
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        at_least(self, "num_images", self.training.batch_size)
        if self.training.flip:
            raise InputError("absorb: an image belongs to its noise, so flip must be false")


@dataclass(frozen=True)
class Experiment:
    """One data set and everything trained on it."""

    name: str = ""
    """Name of the run folder."""
    data: DataConfig = DataConfig()
    judges: dict[str, JudgeConfig] = field(default_factory=dict)
    """One entry per judge."""
    consistency: ConsistencyConfig = ConsistencyConfig()
    generator: GeneratorConfig | None = None
    """A generator of another family; where there is one, train all trains it for the other."""
    joint: JointConfig = JointConfig()
    absorb: AbsorbConfig = AbsorbConfig()
