"""Generators make samples: ``sample(seeds, labels) -> Samples``."""

from pathlib import Path

from burnish.checkpoint import SHIPPED
from burnish.errors import unknown
from burnish.generators.consistency import ConsistencyModel

__all__ = ["ConsistencyModel", "load_generator", "shipped_generators"]


def shipped_generators() -> list[str]:
    """Return the names of the generators that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/generator"))


def load_generator(source: str, num_steps: int = 1) -> ConsistencyModel:
    """Load a consistency model by the name of a shipped one, from a folder or from the hub.

    Raises:
        InputError: There is no such generator.
    """
    shipped = shipped_generators()
    if source in shipped:
        return ConsistencyModel.load(SHIPPED / source / "generator", num_steps)
    # A hub name is owner/name; anything else that is not a folder is a slip of the pen.

    if not Path(source).exists() and source.count("/") != 1:
        raise unknown("generator", source, [*shipped, "FOLDER", "OWNER/NAME"])
    return ConsistencyModel.load(source, num_steps)
