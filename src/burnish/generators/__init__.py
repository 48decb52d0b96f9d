"""Generators make samples: ``sample(seeds, labels) -> Samples``."""

from pathlib import Path

from burnish.checkpoint import SHIPPED
from burnish.errors import InputError, unknown
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.generator import Generator
from burnish.generators.latent import LatentModel

__all__ = [
    "ConsistencyModel", "DiffusionModel", "Generator", "LatentModel", "load_generator",
    "shipped_generators",
]  # fmt: skip


def shipped_generators() -> list[str]:
    """Return the names of the generators that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/generator"))


def load_generator(
    source: str, num_steps: int | None = None, solver: str | None = None
) -> Generator:
    """Load a generator; what is found at ``source`` decides of which family.

    Args:
        source: The name of a shipped one; the folder of a consistency model or of a diffusion
            model; the .safetensors file of a VAE or GAN; or a consistency model's name on the hub.
        num_steps: Sampling steps; None for 1, or a diffusion model's own number.
        solver: Of diffusion models only, ``heun`` or ``euler``.

    Raises:
        InputError: There is no such generator, or it cannot sample that way.
    """
    path, shipped = Path(source), shipped_generators()
    if source not in shipped and DiffusionModel.is_in(path):
        given = {"num_steps": num_steps, "solver": solver}
        return DiffusionModel.load(path, **{k: v for k, v in given.items() if v is not None})
    if solver is not None:
        raise InputError(f"a solver is for diffusion models, and {source} is none")
    steps = 1 if num_steps is None else num_steps
    if source in shipped:
        return ConsistencyModel.load(SHIPPED / source / "generator", steps)
    if path.is_file() or path.suffix == ".safetensors":
        return LatentModel.load(path, steps)
    # A hub name is owner/name; anything else that is not a folder is a slip of the pen.
    if not path.exists() and source.count("/") != 1:
        raise unknown("generator", source, [*shipped, "FOLDER", "FILE.safetensors", "OWNER/NAME"])
    return ConsistencyModel.load(source, steps)
