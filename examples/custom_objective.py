"""Climb an objective of your own, and keep the images of every step.

    python examples/custom_objective.py

The objective here is the margin of the label's logit over the largest other one. It is compared
with the guide's own objective, the logit, by the realness that the images reach.
"""

from pathlib import Path

import torch
from torch import Tensor

import burnish


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return f_y - max_k f_k over k != y, ``[B]``, of logits ``[B, K]`` and labels ``[B]``."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], float("-inf")).amax(1)


def main(num_images: int = 32, out: Path | None = None) -> dict[str, float]:
    """Refine the same images by both objectives.

    Args:
        num_images: How many.
        out: Folder for the images of each step as PNG, step-0, step-1, ...; None for none.

    Returns:
        The mean realness after each.
    """
    guide = burnish.load_guide("fashion_mnist")
    samples = burnish.load_generator("fashion_mnist").sample(range(num_images))
    images, labels = samples.images, samples.labels
    assert labels is not None
    reached = {}
    for name, objective in (("logit", "logit"), ("margin", margin)):
        better = burnish.refine(images, labels=labels, guide=guide, objective=objective)
        with torch.no_grad():
            reached[name] = guide.realness(better, labels).mean().item()
        print(f"{name:7} realness {reached[name]:.2f}")
    if out is not None:
        for step, iterate in enumerate(burnish.Refiner(guide).path(images, labels)):
            kept = samples.with_images(iterate)
            burnish.write_samples(out / f"step-{step}", [kept], num_images)
    return reached


if __name__ == "__main__":
    main(out=Path("steps"))
