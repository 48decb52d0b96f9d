"""Baselines, against what is known of flat images, edges and impulses."""

import numpy as np
import pytest
import torch

from burnish.samples import Samples, to_uint8
from burnish.studies.baselines import apply_baseline, blur, resample_counts, sharpen
from burnish.studies.tables import Baseline


def test_filters_of_flat_images_edges_and_impulses():
    flat = torch.linspace(0, 1, 256).view(-1, 1, 1, 1).expand(-1, 3, 6, 5)
    assert torch.equal(to_uint8(blur(flat, 1.3)), to_uint8(flat))
    assert torch.equal(to_uint8(sharpen(flat, 1.3, 2.0)), to_uint8(flat))
    impulse = torch.zeros(1, 1, 15, 15)
    impulse[..., 7, 7] = 1
    spread = blur(impulse, 1.0)
    assert spread.sum() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(spread, spread.mT)
    assert float(spread[0, 0, 7, 8] / spread[0, 0, 7, 7]) == pytest.approx(np.exp(-0.5))
    # Either side of an edge moves away from it, as far as the blur moved it towards it.
    edge = torch.full((1, 1, 8, 8), 0.25)
    edge[..., 4:] = 0.75
    torch.testing.assert_close(sharpen(edge, 0.6, 1.0), 2 * edge - blur(edge, 0.6))


def test_resampling_makes_classes_equal_and_changes_no_image():
    classes = torch.tensor([0] * 70 + [1] * 25 + [3] * 5)[torch.randperm(100)]
    counts = resample_counts(classes)
    taken = torch.repeat_interleave(classes, counts)
    assert sorted(taken.bincount().tolist()) == [0, 33, 33, 34]
    for label in (0, 1, 3):
        of_class = counts[classes == label]
        assert of_class.max() - of_class.min() <= 1
    images = torch.rand(100, 1, 2, 2)
    whole = Samples(images, classes, torch.arange(100))
    parts = list(apply_baseline([whole[:30], whole[30:]], Baseline("resample"), classes))
    ids = torch.cat([part.ids for part in parts])
    assert torch.equal(ids, torch.repeat_interleave(torch.arange(100), counts))
    assert torch.equal(torch.cat([part.images for part in parts]), images[ids])
