"""Refine the images of any generator inside your own Python program, without files.

    python examples/any_generator.py

Your generator is whatever makes tensors ``[B, C, H, W]`` in [0, 1]; here it is the shipped
consistency model. Your guide is a shipped one, one of your own, or any classifier.
"""

import torch

from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.refine.refiner import Refiner, settings_for
from burnish.samples import Samples


def main(num_images: int = 16, eps: float | None = None) -> tuple[float, float]:
    """Refine a batch; returns its mean realness before and after."""
    guide = load_guide("fashion_mnist")
    generated = load_generator("fashion_mnist").sample(range(num_images))

    # From here on it could be anybody's images: a tensor, a label each, and an id each.
    samples = Samples(generated.images, generated.labels, torch.arange(num_images))
    refiner = Refiner(guide, settings_for(guide, preset=None, eps=eps))
    assert samples.labels is not None
    (refined,) = refiner([samples], samples.labels)

    before = refined.ledger.realness_before.mean().item()
    after = refined.ledger.realness_after.mean().item()
    print(f"realness {before:.2f} -> {after:.2f}, moved {refined.ledger.l2_moved.mean():.2f}")
    return before, after


if __name__ == "__main__":
    main()
