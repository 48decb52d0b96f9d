"""Generators in files of others: read without running anything, strictly, into our networks."""

from pathlib import Path
from typing import Any

from burnish.errors import InputError, unknown
from burnish.foreign.reader import read_checkpoint
from burnish.foreign.values import Persistent
from burnish.generators.base import Generator, Sampling
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.edm import edm_generator
from burnish.generators.gan_files import State, biggan, biggan_deep, mimicry, tensors
from burnish.generators.latent import LatentModel
from burnish.generators.openai import KNOWN, unet_of
from burnish.generators.unet import Scalings
from burnish.networks.build import build, outline, sketch
from burnish.networks.fit import fitted

GANS = {"mimicry": mimicry, "biggan": biggan, "biggan-deep": biggan_deep}
FAMILIES = ("openai-cm", "openai-edm", *GANS, "edm")
# A tensor that each family has, and where its state dict may lie.
MARKS = {
    "input_blocks.0.0.weight": "openai",
    "block2.c1.weight": "mimicry",
    "blocks.0.0.conv1.weight": "biggan",
    "generator.gen_z.weight_orig": "biggan-deep",
}
INSIDE = ("model_state_dict", "state_dict")


def load_foreign(path: Path, family: str | None, sampling: Sampling) -> Generator:
    """Load a generator of another project from its own file.

    Args:
        path: The file.
        family: One of :data:`FAMILIES`; None to tell by its tensors and its published name.
        sampling: How it is to be sampled.

    Raises:
        InputError: It cannot be read, is of no known family, or does not fit what it says it is.
    """
    if family is not None and family not in FAMILIES:
        raise unknown("family of generators", family, FAMILIES)
    checkpoint = read_checkpoint(path)
    card = {"name": path.stem, "source": path.name, "sha256": checkpoint.sha256}
    try:
        return _generator(checkpoint.content, path, family, sampling, card)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _generator(
    content: Any, path: Path, family: str | None, sampling: Sampling, card: dict[str, Any]
) -> Generator:
    if isinstance(content, dict) and isinstance(content.get("ema"), Persistent):
        if family not in (None, "edm"):
            raise InputError(f"it is an EDM pickle, not {family}")
        sampling.only("a network of EDM", "num_steps", "solver")
        return edm_generator(content["ema"], sampling.num_steps, sampling.solver, card)
    for name in INSIDE:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    state = tensors(content)
    found = next((kind for mark, kind in MARKS.items() if mark in state), None)
    if found is None:
        names = ", ".join(MARKS)
        raise InputError(f"no generator that is known here; it would have one of {names}")
    if family is not None and family.partition("-")[0] != found.partition("-")[0]:
        raise InputError(f"its tensors are those of {found}, not of {family}")
    if found == "openai":
        return _openai(state, path, family, sampling, card)
    asked = sampling.only("a GAN", "num_steps", *["truncation"] * (found == "biggan-deep"))
    if family not in (None, found):
        raise InputError(f"its tensors are those of {found}, not of {family}")
    arguments, state = GANS[found](state)
    network: Any = fitted(sketch(arguments), lambda: build(arguments), state)
    card |= {"kind": "gan", "family": found, "network": arguments}
    return LatentModel(network, card, **asked)


def _openai(
    state: State, path: Path, family: str | None, sampling: Sampling, card: dict[str, Any]
) -> Generator:
    known, num_levels = KNOWN.get(path.stem, (None, None))
    family = family or known
    if family is None:
        raise InputError(
            "its tensors do not say whether it is a consistency model or the diffusion model that "
            "it was made from; give --as openai-cm or --as openai-edm"
        )
    arguments, state = unet_of(state)
    from diffusers import UNet2DModel  # pyright: ignore[reportPrivateImportUsage]

    def make() -> Any:
        return UNet2DModel(**arguments)

    unet: Any = fitted(outline(make, "its U-Net"), make, state)
    card |= {"family": family}
    if family == "openai-edm":
        asked = sampling.only("a diffusion model", "num_steps", "solver")
        return DiffusionModel(unet, card=card, **asked)
    num_levels = sampling.num_train_timesteps or num_levels
    if num_levels is None and (sampling.timesteps or (sampling.num_steps or 1) > 1):
        raise InputError(
            "its tensors do not say how long its table of noise levels is; give "
            "--num-train-timesteps (40 for cd_..., 201 for ct_imagenet64, 151 for ct_... of LSUN)"
        )
    sampling.only("a consistency model", "num_steps", "timesteps", "num_train_timesteps")
    scalings = Scalings(num_train_timesteps=num_levels or 40)
    return ConsistencyModel(unet, scalings, sampling.num_steps or 1, card, sampling.timesteps)
