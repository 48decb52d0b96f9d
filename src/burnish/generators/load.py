"""Generators by name, path or hub id; a new kind is added to :func:`load_generator`."""

from collections.abc import Sequence
from pathlib import Path

from burnish.errors import InputError
from burnish.generators.base import Generator, Sampling
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.latent import LatentModel
from burnish.hub import find
from burnish.schema import read

# Files of others, which are read by burnish.foreign.
SUFFIXES = (".pt", ".pth", ".pkl", ".bin", ".ckpt", ".model")


def load_generator(
    source: str | Path,
    num_steps: int | None = None,
    solver: str | None = None,
    *,
    family: str | None = None,
    timesteps: Sequence[int] | None = None,
    num_train_timesteps: int | None = None,
    truncation: float | None = None,
    precision: str = "float32",
) -> Generator:
    """Load a generator; the files at ``source`` tell its kind.

    Args:
        source: The name of a shipped one (``cifar10``); the folder of a consistency model or of a
            diffusion model; the ``.safetensors`` file of a VAE, GAN or Gaussian; a pipeline of
            diffusers, as a folder, or as a hub id if it is a ``ConsistencyModelPipeline``; or the
            checkpoint of another project (``.pt``, ``.pth``, ``.pkl``, ``.bin``).
        num_steps: Sampling steps; None for 18 of a diffusion model and 1 of any other, and for
            what a pipeline of diffusers does by itself.
        solver: ``heun`` or ``euler``, for diffusion models only; None for ``heun``.
        family: Of a checkpoint whose tensors do not tell it: one of ``openai-cm``, ``openai-edm``,
            ``mimicry``, ``biggan``, ``biggan-deep`` and ``edm``.
        timesteps: Of a consistency model, in place of ``num_steps``: places in its table of noise
            levels, falling to 0, as diffusers takes them.
        num_train_timesteps: Length of that table, where the files do not say it.
        truncation: Of BigGAN-deep, above 0 and at most 1; None for 1.
        precision: ``float32``, ``float16`` or ``bfloat16``, inside the network.

    Raises:
        InputError: There is no such generator, or it cannot sample that way.
    """
    if num_steps is not None:
        read(int, num_steps, "num_steps")
    if timesteps is not None:
        places: tuple[int, ...] = read(tuple[int, ...], list(timesteps), "timesteps")
        if num_steps not in (None, len(places)):
            raise InputError(f"timesteps are {len(places)} steps, not {num_steps}")
    path = find("generator", str(source))
    sampling = Sampling(num_steps, solver, timesteps, num_train_timesteps, truncation)
    return _load(path, str(source), family, sampling).with_precision(precision)


def _load(path: Path, source: str, family: str | None, sampling: Sampling) -> Generator:
    if path.suffix.lower() in SUFFIXES or (family is not None and path.is_file()):
        from burnish.generators.foreign_files import load_foreign

        return load_foreign(path, family, sampling)
    if family is not None:
        raise InputError(f"{source} tells its family itself; leave out --as")
    if DiffusionModel.is_in(path):
        return DiffusionModel.load(
            path, **sampling.only("a diffusion model", "num_steps", "solver")
        )
    if sampling.solver is not None:
        raise InputError(f"{source} is no diffusion model, so it takes no solver")
    if path.is_file() or path.suffix == ".safetensors":
        return LatentModel.load(path, **sampling.only("this generator", "num_steps", "truncation"))
    from burnish.generators.pipelines import class_name, load_pipeline

    if class_name(path) in ("", "ConsistencyModelPipeline"):
        asked = sampling.only("a consistency model", "num_steps", "timesteps")
        return ConsistencyModel.load(path, **asked)
    return load_pipeline(path, **sampling.only("a pipeline of diffusers", "num_steps"))
