"""What each training is made of: data, network, loss, validation, the file that comes out."""

from burnish.training.recipes.absorb import train_absorb
from burnish.training.recipes.consistency import train_consistency
from burnish.training.recipes.generator import train_generator
from burnish.training.recipes.joint import train_joint
from burnish.training.recipes.judge import train_judge
from burnish.training.recipes.parts import load_real

__all__ = [
    "load_real", "train_absorb", "train_consistency", "train_generator", "train_joint",
    "train_judge",
]  # fmt: skip
