"""Views of images and the contrastive loss against closed forms."""

import math

import pytest
import torch

from burnish.errors import InputError
from burnish.training.config import ViewsConfig
from burnish.training.losses.contrastive import (
    contrastive_loss,
    crop,
    matched,
    random_views,
    recolor,
)

CONFIG = ViewsConfig()


def ones(count):
    return torch.ones(count)


def test_a_crop_of_a_slope_is_the_slope_within_the_box():
    # Bilinear interpolation is exact on what is linear; pixel centers lie half a pixel inside.
    size = 8
    middle = (torch.arange(size) + 0.5) / size * 2 - 1
    slope = (3 * middle[:, None] + middle[None, :]).expand(2, 1, size, size)
    centers = torch.tensor([[0.25, -0.5], [0.1, 0.0]])
    sides = torch.tensor([[0.5, 0.25], [0.75, 0.5]])
    found = crop(slope, centers, sides, torch.tensor([False, True]))
    x = centers[:, :1] + sides[:, :1] * torch.stack([middle, -middle])
    y = centers[:, 1:] + sides[:, 1:] * middle
    torch.testing.assert_close(found[:, 0], 3 * y[:, :, None] + x[:, None, :])


@pytest.mark.parametrize("channels, size", [(1, 28), (3, 32)])
def test_a_whole_crop_and_no_change_of_color_give_the_image(channels, size):
    images, count = torch.rand(4, channels, size, size), 4
    mirrored = torch.arange(count) % 2 == 0
    found = crop(images, torch.zeros(count, 2), torch.ones(count, 2), mirrored)
    torch.testing.assert_close(found[1::2], images[1::2], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[::2], images[::2].flip(3), rtol=0, atol=1e-5)
    same = recolor(images, ones(4), ones(4), ones(4), 0 * ones(4))
    torch.testing.assert_close(same, images, rtol=0, atol=1e-6)


def test_colors_of_known_changes():
    images, one = 0.2 + 0.3 * torch.rand(2, 3, 5, 5), ones(2)
    third = recolor(images, one, one, one, one * 2 * math.pi / 3)
    torch.testing.assert_close(third, images.roll(1, 1))  # red goes to green
    luma = (torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1) * images).sum(1, keepdim=True)
    gray = recolor(images, one, one, 0 * one, 0 * one)
    torch.testing.assert_close(gray, luma.expand_as(images))
    flat = recolor(images, one, 0 * one, one, 0 * one)
    mean = luma.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(flat, mean.expand_as(images))
    # Each image has numbers of its own.
    brighter = recolor(images, torch.tensor([1.0, 1.5]), one, one, 0 * one)
    torch.testing.assert_close(brighter, images * torch.tensor([1.0, 1.5]).view(2, 1, 1, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_within_range_follow_the_seed_and_differ_from_image_to_image(channels):
    images = torch.rand(1, channels, 28, 28).expand(16, -1, -1, -1)
    torch.manual_seed(3)
    first, second = random_views(images, CONFIG, False), random_views(images, CONFIG, False)
    torch.manual_seed(3)
    assert torch.equal(random_views(images, CONFIG, False), first)
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=0)) == 16
    assert first.shape == images.shape and first.min() >= 0 and first.max() <= 1
    # A slope rises to the right in any crop of it, unless mirrored.
    slope = torch.linspace(0.3, 0.6, 28).expand(64, channels, 28, 28)
    for mirror, low, high in ((False, 0, 0), (True, 20, 44)):
        views = random_views(slope, CONFIG, mirror).mean((1, 2))
        assert low <= int((views[:, 0] > views[:, -1]).sum()) <= high


@pytest.mark.parametrize(
    "changes, reason",
    [({"min_area": 0.0}, "min_area"), ({"temperature": 0.0}, "temperature"), ({"hue": -1}, "hue")],
)
def test_views_out_of_range(changes, reason):
    with pytest.raises(InputError, match=reason):
        ViewsConfig(**changes)


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
