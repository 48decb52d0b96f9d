"""Refine the same images within balls of several radii, and compare each with real images.

    python examples/compare_radii.py

Prints one line per radius. Distances fall first and rise again once the radius is too large.
"""

from collections.abc import Sequence

import torch

import burnish

RADII = (0.0, 0.5, 1.0, 1.5, 3.0, 6.0)


def main(
    num_images: int = 1000, radii: Sequence[float] = RADII, batch_size: int = 250
) -> dict[float, float]:
    """Measure every radius.

    Args:
        num_images: Images per radius, the same seeds each time.
        radii: Values of eps.
        batch_size: Images that are sampled at a time.

    Returns:
        The FID of each radius.
    """
    guide = burnish.load_guide("fashion_mnist")
    generator = burnish.load_generator("fashion_mnist")
    batches = list(generator.batches(range(num_images), batch_size=batch_size))
    images = torch.cat([batch.images for batch in batches])
    labels = torch.cat([batch.labels for batch in batches if batch.labels is not None])
    distances = {}
    for eps in radii:
        better = burnish.refine(images, labels=labels, guide=guide, preset="golan24-pgd", eps=eps)
        scores = burnish.evaluate(better, "fashion_mnist/plain")
        print(f"eps {eps:<4} FID {scores['fid']:6.2f}  recall {scores['recall']:.3f}")
        distances[eps] = scores["fid"]
    return distances


if __name__ == "__main__":
    main()
