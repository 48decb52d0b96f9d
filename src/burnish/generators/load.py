"""Generators by name, path or hub id; a new kind is added to :func:`load_generator`."""

from pathlib import Path

from burnish.errors import InputError
from burnish.generators.base import Generator
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.latent import LatentModel
from burnish.hub import find
from burnish.schema import read


def load_generator(
    source: str | Path, num_steps: int | None = None, solver: str | None = None
) -> Generator:
    """Load a generator; the files at ``source`` tell its kind.

    Args:
        source: The name of a shipped one (``cifar10``); the folder of a consistency model or of a
            diffusion model; the ``.safetensors`` file of a VAE, GAN or Gaussian; or the id of a
            ``ConsistencyModelPipeline`` on the hub.
        num_steps: Sampling steps; None for 18 of a diffusion model and 1 of any other.
        solver: ``heun`` or ``euler``, for diffusion models only; None for ``heun``.

    Raises:
        InputError: There is no such generator, or it cannot sample that way.
    """
    name = str(source)
    if num_steps is not None:
        read(int, num_steps, "num_steps")
    path = find("generator", name)
    steps = {} if num_steps is None else {"num_steps": num_steps}
    if DiffusionModel.is_in(path):
        return DiffusionModel.load(path, **steps, solver=solver or "heun")
    if solver is not None:
        raise InputError(f"{source} is no diffusion model, so it takes no solver")
    if path.is_file() or path.suffix == ".safetensors":
        return LatentModel.load(path, **steps)
    return ConsistencyModel.load(path, **steps)
