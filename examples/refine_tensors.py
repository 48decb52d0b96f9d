"""Refine the images of any program that makes tensors; no files are involved.

    python examples/refine_tensors.py

Here the images come from the shipped consistency model. They could come from anywhere, as tensors
``[B, C, H, W]`` in [0, 1] with one label each. The guide must have been trained on such images.
"""

import torch
from torch import Tensor

import burnish


def make_images(num_images: int) -> tuple[Tensor, Tensor]:
    """Return images and labels; put your own generator here."""
    samples = burnish.load_generator("fashion_mnist").sample(range(num_images))
    assert samples.labels is not None
    return samples.images, samples.labels


def main(num_images: int = 64, eps: float | None = None) -> tuple[float, float]:
    """Refine a batch of images.

    Args:
        num_images: How many.
        eps: Radius of the ball; None for what the guide recommends.

    Returns:
        The mean realness before and after.
    """
    guide = burnish.load_guide("fashion_mnist")
    images, labels = make_images(num_images)
    better = burnish.refine(images, labels=labels, guide=guide, eps=eps)

    with torch.no_grad():
        before = guide.realness(images, labels).mean().item()
        after = guide.realness(better, labels).mean().item()
    moved = (better - images).flatten(1).norm(dim=1)
    print(f"realness {before:.2f} -> {after:.2f}, moved by {moved.mean():.2f} on average")
    return before, after


if __name__ == "__main__":
    main()
