"""Generators by name, path or hub id."""

from pathlib import Path

from burnish.errors import InputError
from burnish.generators.base import Generator
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.latent import LatentModel
from burnish.hub import find, shipped

__all__ = ["load_generator"]


def load_generator(
    source: str | Path, num_steps: int | None = None, solver: str | None = None
) -> Generator:
    """Load a generator; what lies at ``source`` decides on its family.

    Args:
        source: The name of a shipped one; the folder of a consistency model or of a diffusion
            model; the ``.safetensors`` file of a VAE, GAN or Gaussian; or the id of a
            ``ConsistencyModelPipeline`` on the hub.
        num_steps: Sampling steps; None for 1, or 18 for a diffusion model.
        solver: Of diffusion models only, ``heun`` or ``euler``.

    Raises:
        InputError: There is no such generator, or it cannot sample that way.
    """
    name = str(source)
    path = find("generator", name) if name in shipped("generator") else Path(source)
    if DiffusionModel.is_in(path):
        given = {"num_steps": num_steps, "solver": solver}
        return DiffusionModel.load(path, **{k: v for k, v in given.items() if v is not None})
    if solver is not None:
        raise InputError(f"a solver is for diffusion models, and {source} is none")
    steps = 1 if num_steps is None else num_steps
    if path.is_file() or path.suffix == ".safetensors":
        return LatentModel.load(path, steps)
    return ConsistencyModel.load(find("generator", str(path)), steps)
