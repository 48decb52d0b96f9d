"""The contrastive loss in closed form."""

import math

import pytest
import torch

from burnish.training.losses.contrastive import contrastive_loss, matched


def test_the_contrastive_loss_in_closed_form():
    tau, z = 0.5, torch.eye(5)
    # Each view finds its pair at cosine 1, and 2N - 2 others at cosine 0, whatever the lengths.
    right = math.log(math.exp(1 / tau) + 8) - 1 / tau
    assert contrastive_loss(3 * z, 0.1 * z, tau).item() == pytest.approx(right, rel=1e-5)
    # Paired with a stranger, it has its own kind among the others.
    wrong = math.log(math.exp(1 / tau) + 8)
    assert contrastive_loss(z, z.roll(1, 0), tau).item() == pytest.approx(wrong, rel=1e-5)
    # All alike: one of 2N - 1 at random.
    same = torch.ones(5, 3)
    assert contrastive_loss(same, same, tau).item() == pytest.approx(math.log(9), rel=1e-5)
    order = torch.tensor([0, 1, 2, 4, 3])
    assert matched(z, 2 * z) == 1 and matched(z, z[order]) == pytest.approx(0.6)
