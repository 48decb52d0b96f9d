"""The loss of a model that learns its own refined images."""

import torch
from torch import Tensor, nn

from burnish.generators.scalings import Scalings
from burnish.samples import Samples
from burnish.seeds import Streams
from burnish.training.losses.consistency import pseudo_huber

__all__ = ["SelfDistillationLoss"]


class SelfDistillationLoss:
    r"""Distance of the one-step image of a seed to a given image of that seed.

    .. math:: d(f(\sigma_{max} z, \sigma_{max}), x)

    with :math:`z` the noise that sampling draws for the seed and :math:`d` the pseudo-Huber
    distance. So a model learns to make at once what it was shown.

    Args:
        scalings: The noise range.
        first_seed: Seed of the image with id 0; image i belongs to seed first_seed + i.
    """

    def __init__(self, scalings: Scalings, first_seed: int) -> None:
        self.scalings, self.first_seed = scalings, first_seed

    def __call__(
        self, model: nn.Module, batch: Samples, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and the numbers to log."""
        del step
        wanted = batch.images * 2 - 1
        seeds = (self.first_seed + batch.ids).tolist()
        noise = Streams(seeds, "noise").normal(wanted.shape[1:]).to(wanted.device)
        levels = torch.full((len(batch),), self.scalings.sigma_max, device=wanted.device)
        made = model(self.scalings.sigma_max * noise, levels, batch.labels)
        distance = pseudo_huber(made, wanted)
        return distance.mean(), {"distance": distance.detach().mean().item()}
