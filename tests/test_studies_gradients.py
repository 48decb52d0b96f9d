"""What a gradient looks like, against closed forms."""

import math

import pytest
import torch

from burnish.errors import InputError
from burnish.samples import from_uint8
from burnish.studies.gradients import (
    cosine,
    logit_gradient,
    low_frequencies,
    low_frequency_share,
    toward_nearest,
)


def wave(rows, columns, height=32, width=32):
    """A cosine of so many periods down and across."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None, :] / width
    return torch.cos(2 * math.pi * (rows * y + columns * x) + 0.3).expand(1, 3, -1, -1)


def test_low_frequencies_are_those_within_the_radius():
    # A quarter of Nyquist is 4 periods in 32 pixels: the 49 points of the grid within radius 4.
    assert int(low_frequencies(32, 32, 0.25).sum()) == 49
    assert low_frequencies(28, 28, 0.25).sum() == 37  # radius 3.5
    assert low_frequencies(32, 16, 10).all()
    for rows, columns, share in (
        (0, 0, 1),
        (4, 0, 1),
        (0, -4, 1),
        (2, 3, 1),
        (3, 3, 0),
        (5, 0, 0),
    ):
        found = low_frequency_share(wave(rows, columns))
        assert found.item() == pytest.approx(share, abs=1e-6), (rows, columns)
    checkerboard = (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))
    assert low_frequency_share(checkerboard.view(1, 1, 32, 32)).item() == pytest.approx(
        0, abs=1e-9
    )
    # Energies of unlike waves add up, over channels too, whatever the scale of the whole.
    mixed = torch.cat([3 * wave(1, 2)[:, :1], wave(9, 9)[:, :1]], 1) * 1e-25
    assert low_frequency_share(mixed).item() == pytest.approx(0.9, abs=1e-5)
    assert low_frequency_share(torch.zeros(1, 1, 8, 8)).item() == 0


@pytest.mark.parametrize("size", [28, 32])
def test_white_noise_has_the_share_that_is_stated_beside(size):
    expected = low_frequencies(size, size, 0.25).double().mean().item()
    shares = low_frequency_share(torch.randn(200, 3, size, size))
    assert shares.shape == (200,) and len(shares.unique()) > 100
    assert shares.mean().item() == pytest.approx(expected, rel=0.03)


def test_toward_the_nearest_of_the_class():
    real = torch.randint(0, 256, (12, 1, 6, 6), dtype=torch.uint8)
    real_labels = torch.arange(12) % 3
    labels = torch.tensor([1, 2, 0, 1])
    mine = torch.tensor([4, 5, 9, 7])  # one real image of each class asked for
    away = 0.02 * torch.randn(4, 1, 6, 6)
    found = toward_nearest(from_uint8(real[mine]) + away, labels, real, real_labels)
    torch.testing.assert_close(found, -away, rtol=0, atol=1e-6)
    torch.testing.assert_close(cosine(-7 * away, found), torch.ones(4))
    torch.testing.assert_close(cosine(away, found), -torch.ones(4))
    # A nearer one of another class does not count.
    images = from_uint8(real[mine])
    other = toward_nearest(images, (labels + 1) % 3, real, real_labels)
    for image, way, label in zip(images, other, (labels + 1) % 3, strict=True):
        bank = from_uint8(real[real_labels == label])
        assert way.norm() == pytest.approx((bank - image).flatten(1).norm(dim=1).min().item())
    with pytest.raises(InputError, match="class 3"):
        toward_nearest(images[:1], torch.tensor([3]), real, real_labels)


def test_cosines():
    right, up = torch.tensor([1.0, 0]).view(1, 1, 1, 2), torch.tensor([0, 1.0]).view(1, 1, 1, 2)
    assert cosine(right, up).item() == 0 and cosine(right, 0 * up).item() == 0
    assert cosine(1e-30 * right, right + up).item() == pytest.approx(math.sqrt(0.5))


def test_the_gradient_is_that_of_each_images_own_logit(guide):
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([2, 0, 2])
    found = logit_gradient(guide, images, labels)
    for i in range(3):
        alone = torch.func.grad(lambda x, y=labels[i]: guide(x[None])[0, y])(images[i])
        torch.testing.assert_close(found[i], alone)
    step = 1e-2 * found / found.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert (guide.realness(images + step, labels) > guide.realness(images, labels)).all()
