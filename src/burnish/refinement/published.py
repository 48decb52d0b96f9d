"""The settings that BIGRoC's authors published, one preset per generator, and what they reached.

Ganz & Elad 2023, "BIGRoC: Boosting Image Generation via a Robust Classifier",
https://arxiv.org/abs/2108.03702: table 7 for CIFAR-10, and the released notebooks. All take 7
steps of 1.5 eps / 7 in an L2 ball, but for the notebooks of unconditional generators, with 30
steps of eps / 30.

Radii are in [0, 1] pixel units. Those of CIFAR-10 were published for images in [-1, 1] and are
halved here; that is stated by the notebooks for ``wgan-gp``, ``sngan``, ``ssgan``,
``infomax-gan`` and ``cgan-pd``, and inferred for the others of table 7.
"""

from dataclasses import dataclass
from typing import Literal

from burnish.refinement.settings import RefineSettings

# Which images a FID was measured with. Numbers of two protocols do not compare.
NOTEBOOK = "notebook: 50,000 unrounded images against the training set"
OPENAI = "OpenAI's evaluator: 50,000 images against its reference batch"


@dataclass(frozen=True)
class Published:
    """One row of what was published."""

    generator: str
    eps: float
    """L2 radius in [0, 1] pixel units."""
    labels: Literal["given", "balanced"]
    """Classes to refine towards: those of the generator, or balanced pseudo labels."""
    image_size: int
    """Side of the images that it was chosen for."""
    source: str
    reached: str = ""
    """Base -> refined, as published for exactly these settings; empty where none was found."""
    protocol: str = ""
    num_steps: int = 7
    path: float = 1.5
    """Length of all steps together, in units of eps."""

    def settings(self) -> RefineSettings:
        """Return what is climbed, and how far."""
        step = self.path * self.eps / self.num_steps
        return RefineSettings("ce", eps=self.eps, step_size=step, num_steps=self.num_steps)


def _table7(generator: str, eps: float, labels: Literal["given", "balanced"]) -> Published:
    return Published(generator, eps / 2, labels, 32, f"table 7: {eps:g} in [-1, 1]")


def _notebook(generator: str, eps: float, reached: str, conditional: bool = False) -> Published:
    steps, path, labels = (7, 1.5, "given") if conditional else (30, 1.0, "balanced")
    source = f"notebook: {eps:g} in [-1, 1], {steps} steps"
    return Published(
        generator, eps / 2, labels, 32, source, reached, NOTEBOOK, steps, path
    )  # fmt: skip


def _imagenet(generator: str, eps: float, size: int, reached: str) -> Published:
    return Published(generator, eps, "given", size, "notebook, in [0, 1]", reached, OPENAI)


PUBLISHED: dict[str, Published] = {
    "bigroc/vae": _table7("VAE", 25, "balanced"),
    "bigroc/dcgan": _table7("DCGAN", 5, "balanced"),
    "bigroc/wgan-gp": _table7("WGAN-GP", 5, "balanced"),
    "bigroc/sngan": _table7("SNGAN", 3, "balanced"),
    "bigroc/ssgan": _table7("SSGAN", 3, "balanced"),
    "bigroc/cgan": _table7("cGAN", 5, "given"),
    "bigroc/cgan-pd": _table7("cGAN-PD", 2, "given"),
    "bigroc/biggan": _table7("BigGAN", 1, "given"),
    "bigroc/diff-biggan": _table7("DiffAugment-BigGAN", 1, "given"),
    "bigroc/wgan-gp-notebook": _notebook(
        "WGAN-GP", 5, "FID 22.58 -> 16.23, IS 7.50 -> 8.15"),
    "bigroc/sngan-notebook": _notebook(
        "SNGAN", 5, "FID 17.12 -> 13.22, IS 8.05 -> 8.62"),
    "bigroc/ssgan-notebook": _notebook(
        "SSGAN", 3, "FID 15.10 -> 10.83, IS 8.20 -> 8.61"),
    "bigroc/infomax-gan-notebook": _notebook(
        "InfoMax-GAN", 3, "FID 15.41 -> 11.28, IS 8.09 -> 8.48"),
    "bigroc/cgan-pd-notebook": _notebook(
        "cGAN-PD", 3, "FID 11.10 -> 8.54, IS 8.33 -> 8.77", conditional=True),
    "bigroc/sn-resnet-gan": Published(
        "SN-ResNet-GAN", 1.8, "given", 32, "comparison notebook, in [0, 1]",
        "IS 8.42 -> 9.33", "torch-fidelity: 50,000 images"),
    "bigroc/sn-resnet-proj-128": Published(
        "SN-ResNet-Proj", 15, "given", 128, "comparison notebook, in [0, 1]",
        "FID ? -> 29.30, IS ? -> 44.68", OPENAI),
    "bigroc/adm-g-128": _imagenet(
        "ADM-G", 1.5, 128, "FID 2.974 -> 2.534 (pseudo labels 2.775), recall .593 -> .576"),
    "bigroc/biggan-deep-128": _imagenet(
        "BigGAN-deep", 5, 128, "FID 6.022 -> 5.708 (pseudo labels 5.696), recall .349 -> .339"),
    "bigroc/biggan-deep-256": _imagenet(
        "BigGAN-deep", 1, 256, "FID 7.034 -> 6.844 (pseudo labels 6.929), recall .278 -> .262"),
    "bigroc/adm-g-256": _imagenet(
        "ADM-G", 3, 256, "FID 4.587 -> 3.985 (pseudo labels 4.072), recall .522 -> .486"),
    "bigroc/adm-g-u-256": _imagenet(
        "ADM-G + U", 1.5, 256, "FID 3.943 -> 3.628 (pseudo labels 3.689), recall .530 -> .513"),
}  # fmt: skip


def published_labels(preset: str | None) -> str | None:
    """Return the labels that a published preset refines towards; None for any other preset."""
    found = PUBLISHED.get(preset or "")
    return found and found.labels


def size_note(preset: str | None, height: int, width: int) -> str:
    """Return what to say of images of another size than a preset was chosen for, or nothing."""
    found = PUBLISHED.get(preset or "")
    if found is None or height == width == found.image_size:
        return ""
    side = found.image_size
    return (
        f"the preset {preset} was published for images of {side} x {side}, and these are "
        f"{height} x {width}; an L2 radius of {found.eps:g} over all values of an image means "
        "another change per pixel, so choose --eps yourself (burnish tune)"
    )
