"""Samples check what they hold; rounding to uint8 errs by half a level at most."""

import pytest
import torch

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8, to_uint8


def three(images=None, labels=None, ids=None):
    images = torch.linspace(0, 1, 12).view(3, 1, 2, 2) if images is None else images
    return Samples(images, labels, torch.arange(3) if ids is None else ids)


def test_every_level_survives():
    levels = torch.arange(256, dtype=torch.uint8)
    images = from_uint8(levels)
    assert images.dtype == torch.float32 and images.min() == 0 and images.max() == 1
    assert torch.equal(to_uint8(images), levels)


def test_rounding_is_to_the_nearest_level():
    levels = torch.arange(1, 255, dtype=torch.float64)
    for shift in (-0.49, -0.1, 0.1, 0.49):
        assert torch.equal(to_uint8((levels + shift) / 255).double(), levels)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.01, 1.01])
def test_pixels_out_of_range_are_refused(wrong):
    images = torch.full((3, 1, 2, 2), 0.5)
    images[1, 0, 1, 0] = wrong
    with pytest.raises(InputError, match=r"NaN|\[0, 1\]"):
        three(images)


@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 2, 2, 2), (3, 4, 2, 2), (1, 3, 1, 2, 2)])
def test_shapes_of_images(shape):
    with pytest.raises(InputError, match=r"\[B, C, H, W\]"):
        three(torch.zeros(shape))


@pytest.mark.parametrize("wrong", [torch.arange(2), torch.zeros(3, 1, dtype=torch.int64)])
def test_one_label_and_one_id_per_image(wrong):
    with pytest.raises(InputError, match="3 images but labels"):
        three(labels=wrong)
    with pytest.raises(InputError, match="3 images but ids"):
        three(ids=wrong)


def test_parts_and_new_images_keep_labels_and_ids():
    samples = three(labels=torch.tensor([4, 5, 6]), ids=torch.tensor([10, 11, 12]))
    part = samples[torch.tensor([2, 0])]
    assert len(samples) == 3 and len(part) == 2
    assert part.labels is not None
    assert part.labels.tolist() == [6, 4] and part.ids.tolist() == [12, 10]
    assert torch.equal(part.images, samples.images[[2, 0]])
    dark = part.with_images(torch.zeros(2, 1, 2, 2))
    assert dark.labels is part.labels and dark.ids is part.ids and dark.images.max() == 0
    with pytest.raises(InputError):
        part.with_images(part.images + 2)
    assert three()[:1].labels is None
