"""Self-distillation compares the image of a seed with the image that was given for it."""

import pytest
import torch
from torch import nn

from burnish.generators.scalings import Scalings
from burnish.samples import Samples
from burnish.seeds import Streams
from burnish.training.losses.self_distillation import SelfDistillationLoss


class Seen(nn.Module):
    """Returns what it was told to, and remembers what it was given."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.given = answer, []

    def forward(self, noisy, sigma, labels):
        self.given.append((noisy, sigma, labels))
        return self.answer


def test_it_shows_the_model_the_noise_of_each_seed_and_measures_the_distance():
    scalings, ids = Scalings(sigma_max=60.0), torch.tensor([4, 0, 7])
    batch = Samples(torch.rand(3, 1, 4, 4), torch.tensor([2, 0, 1]), ids)
    off = torch.full((3, 1, 4, 4), 0.25)
    model = Seen(batch.images * 2 - 1 + off)
    value, numbers = SelfDistillationLoss(scalings, first_seed=1000)(model, batch, 0)
    noisy, sigma, labels = model.given[0]
    noise = Streams([1004, 1000, 1007], "noise").normal((1, 4, 4))
    torch.testing.assert_close(noisy, 60 * noise)
    assert sigma.tolist() == [60.0] * 3 and labels.tolist() == [2, 0, 1]
    offset = 0.00054 * 4
    expected = (1 + offset**2) ** 0.5 - offset  # ||0.25 in each of 16 values|| = 1
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert numbers["distance"] == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_for_a_model_that_makes_the_images():
    batch = Samples(torch.rand(3, 1, 4, 4), None, torch.arange(3))
    value, _ = SelfDistillationLoss(Scalings(), 0)(Seen(batch.images * 2 - 1), batch, 0)
    assert value.item() == pytest.approx(0, abs=1e-6)
