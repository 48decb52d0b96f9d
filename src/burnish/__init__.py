"""burnish refines generated images with an adversarially trained classifier-discriminator.

    import burnish

    guide = burnish.load_guide("fashion_mnist")
    better = burnish.refine(images, labels=labels, guide=guide)

Importing this module is cheap: each public name is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.api import refine
    from burnish.errors import InputError
    from burnish.generators.load import load_generator
    from burnish.guide.load import load_guide
    from burnish.guide.model import Guide
    from burnish.metrics.evaluate import evaluate
    from burnish.refinement.refiner import Refiner
    from burnish.samples import Samples
    from burnish.storage.formats import open_samples, write_samples

__all__ = [
    "Guide", "InputError", "Refiner", "Samples", "evaluate", "load_generator", "load_guide",
    "open_samples", "refine", "write_samples",
]  # fmt: skip

__version__ = "0.1.0"

# Public name -> the module that defines it.
_HOMES = {
    "Guide": "guide.model",
    "InputError": "errors",
    "Refiner": "refinement.refiner",
    "Samples": "samples",
    "evaluate": "metrics.evaluate",
    "load_generator": "generators.load",
    "load_guide": "guide.load",
    "open_samples": "storage.formats",
    "refine": "api",
    "write_samples": "storage.formats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"burnish.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
