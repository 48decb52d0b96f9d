"""Settings of what is trained, one class per kind of model; shared ones are in ``settings``."""
# ruff: noqa: RUF009 - the defaults are frozen dataclasses

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from burnish.errors import InputError, unknown
from burnish.schema import Range
from burnish.training.settings import (
    AttackConfig,
    AugmentConfig,
    Checked,
    GrowthConfig,
    Positive,
    TrainingConfig,
)

TERMS = ("bce_real", "bce_generated", "ce_real", "ce_generated")  # in the order of their sum
Width = Annotated[int, Range(1, 8192)]


@dataclass(frozen=True)
class ViewsConfig(Checked):
    """Two random views of each image, which a network without labels learns to pair."""

    min_area: Annotated[float, Range(0, 1, above=True)] = 0.2
    """Smallest share of the image that a view shows."""
    jitter: Annotated[float, Range(0)] = 0.4
    """Brightness, contrast and saturation change by up to this share."""
    hue: Annotated[float, Range(0)] = 0.1
    """Colors turn by up to this share of the circle."""
    recolored: Annotated[float, Range(0, 1)] = 0.8
    """Probability of these changes of color."""
    gray: Annotated[float, Range(0, 1)] = 0.2
    """Probability that a view has no color."""
    temperature: Annotated[float, Positive] = 0.2
    """Temperature of the contrastive loss; lower values weigh near misses more."""
    num_projected: Annotated[int, Range(2, 65536)] = 64
    """Size of the projection in which views are compared."""


@dataclass(frozen=True)
class FeaturesConfig(Checked):
    """A network of real images whose features measure distances."""

    network: dict[str, Any] = field(default_factory=lambda: {"name": "convnet"})
    """Network name and arguments."""
    task: Literal["labels", "views"] = "labels"
    """What it learns: the class of an image, or, without labels, which two views are of one."""
    views: ViewsConfig = ViewsConfig()
    training: TrainingConfig = TrainingConfig()


@dataclass(frozen=True)
class TeacherConfig(Checked):
    """A small diffusion model, to distill from or to start from."""

    of: str = ""
    """The experiment whose teacher it is, trained under the same --out; empty for this one's."""
    training: TrainingConfig = TrainingConfig()
    sigma_mean: float = -1.2
    """Mean of ln(sigma) in training."""
    sigma_std: Annotated[float, Positive] = 1.2
    """Standard deviation of ln(sigma) in training."""


@dataclass(frozen=True)
class ConsistencyConfig(Checked):
    """A class-conditional consistency model."""

    method: Literal["training", "distillation"] = "distillation"
    """Consistency training (from data) or distillation (from the teacher)."""
    unet: dict[str, Any] = field(default_factory=dict)
    """Arguments of generators.unet.build_unet: widths, layers_per_block, attention, dropout."""
    from_teacher: bool = True
    """Begin with the teacher's weights."""
    teacher: TeacherConfig = TeacherConfig()
    training: TrainingConfig = TrainingConfig()
    sigma_mean: float = -0.8
    """Mean of ln(t) in training."""
    sigma_std: Annotated[float, Positive] = 1.8
    """Standard deviation of ln(t) in training."""
    num_stages: Annotated[int, Range(1, 64)] = 6
    """How many times the gap between the two noise levels halves."""
    sigma_max: Annotated[float, Positive] = 80.0
    """Noise level at which sampling begins."""
    sigma_data: Annotated[float, Positive] = 0.5
    """Standard deviation of the data in [-1, 1]."""


@dataclass(frozen=True)
class GeneratorConfig(Checked):
    """A class-conditional VAE, GAN or Gaussian: from latents to images in one step."""

    family: Literal["vae", "gan", "gaussian"] = "gan"
    """Variational autoencoder, generative adversarial network, or the moments of each class."""
    latent_size: Annotated[int, Range(1, 65536)] = 128
    """Numbers per latent."""
    widths: tuple[Width, ...] = (128, 64, 32)
    """Channels of the decoder at each resolution, the lowest first; each next one doubles."""
    encoder_widths: tuple[Width, ...] = ()
    """Channels of a VAE's encoder or a GAN's discriminator, full size first; empty: as widths."""
    conditional: bool = True
    """Whether the networks of a VAE or GAN are told the class of each image."""
    discriminator_labels: Literal["projection", "concat"] = "projection"
    """How a GAN's discriminator is told: by projection (cGAN-PD), or as channels (cGAN)."""
    discriminator_norm: Literal["spectral", "batch", "none"] = "spectral"
    """What is normalized in a GAN's discriminator: weights (SNGAN), activations (DCGAN), nothing
    (WGAN-GP)."""
    adversarial_loss: Literal["hinge", "wasserstein", "logistic"] = "hinge"
    """Of a GAN: hinge (SNGAN, cGAN-PD), wasserstein (WGAN-GP) or logistic (DCGAN)."""
    gradient_penalty: Annotated[float, Range(0)] = 0.0
    """Factor on (|gradient| - 1)^2 of the discriminator between real and generated images, by
    pixels in [-1, 1]; 10 in WGAN-GP, 0 for none."""
    discriminator_steps: Annotated[int, Range(1, 1000)] = 1
    """Steps of a GAN's discriminator per step of its generator; 5 in WGAN-GP."""
    kl_weight: Annotated[float, Range(0)] = 1.0
    """Factor on a VAE's divergence from the prior."""
    noise_std: Annotated[float | None, Positive] = None
    """Width of a VAE's likelihood in [0, 1] pixel units; null for the best of each batch."""
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.widths) <= 10 or len(self.encoder_widths) > 10:
            raise InputError("widths are the channels at 1 to 10 resolutions")
        if self.gradient_penalty and self.discriminator_norm == "batch":
            raise InputError(
                "gradient_penalty is of one image, and discriminator_norm: batch mixes images; "
                "choose none or spectral"
            )
        if not self.conditional and self.family == "gaussian":
            raise InputError("a gaussian is fitted to each class; leave out conditional")


@dataclass(frozen=True)
class JointConfig(Checked):
    """The joint classifier-discriminator."""

    network: dict[str, Any] = field(default_factory=lambda: {"name": "resnet"})
    """Network name and arguments."""
    start_from: str = ""
    """A guide whose weights training starts from, by name or file; empty for random ones. Its last
    layer begins anew where the number of classes differs."""
    fresh_head: bool = False
    """Begin the last layer anew where the number of classes is the same, too."""
    generated: str = ""
    """File of generated images; empty to sample generators."""
    generated_by: tuple[str, ...] = ()
    """Experiments whose generators are sampled, under the same --out; empty for this one's."""
    num_generated: Annotated[int, Range(1, 1e8)] = 20_000
    """How many images to sample from each generator."""
    generated_seed: Annotated[int, Range(0, 2**62)] = 1_000_000
    """Seed of the first generated image, far from any that results are reported on."""
    training: TrainingConfig = TrainingConfig()
    accumulate: Annotated[int, Range(1, 1e6)] = 1
    """Parts that the batch of one process is cut into, one after the other, to save memory."""
    augment: AugmentConfig = AugmentConfig()
    energy: Literal["logit", "logsumexp"] = "logit"
    """What the discriminator reads: the logit of the image's class, or logsumexp of all."""
    batch_norm: Literal["live", "frozen"] = "live"
    """Batch norm with the batch's statistics in the loss, or with the running ones."""
    real_attack: AttackConfig = AttackConfig(eps=1.0, step_size=0.5, num_steps=2)
    generated_attack: AttackConfig = AttackConfig(
        eps=math.inf, step_size=0.1, num_steps=5, random_start=False
    )
    growth: GrowthConfig = GrowthConfig()
    match_spectrum: bool = False
    """Train on generated images that a linear filter has given the spectrum of the real ones."""
    early_stop: bool = True
    """Stop an attacked generated image that looks as real as the attacked real one beside it."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weight of each term: bce_real, bce_generated, ce_real, ce_generated; 1 where not given."""
    refine: dict[str, Any] = field(default_factory=dict)
    """Settings of refinement that suit this guide; kept in its card as the default of refine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weight in self.weights.items():
            if name not in TERMS:
                raise unknown("term of the joint loss", name, TERMS)
            if weight not in Range(0):
                raise InputError(f"weights: {name} must be {Range(0)}, not {weight}")


@dataclass(frozen=True)
class SelfDistillationConfig(Checked):
    """The consistency model fine-tuned on its own refined images."""

    num_images: Annotated[int, Range(1, 1e8)] = 10_000
    """How many to sample and refine."""
    first_seed: Annotated[int, Range(0, 2**62)] = 2_000_000
    """Seed of the first, far from those that results are reported on and joint training uses."""
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_images < self.training.batch_size:
            raise InputError(f"num_images must be at least {self.training.batch_size}, one batch")
        if self.training.flip:
            raise InputError("flip must be false: an image belongs to its noise")
