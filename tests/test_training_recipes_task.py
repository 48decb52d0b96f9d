"""Batches come in an order of (seed, epoch), each image once, and are a function of the step."""

import pytest
import torch

from burnish.errors import InputError
from burnish.samples import from_uint8
from burnish.storage.datasets import Dataset
from burnish.training.config import TrainingConfig
from burnish.training.recipes.task import Batches


def images_uint8(count):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=generator)


def batches_of(images, batch_size, seed=3, flip=False):
    data = Dataset(images, torch.arange(len(images)), "random")
    return Batches(data, TrainingConfig(batch_size=batch_size, seed=seed, flip=flip))


def test_every_image_once_per_epoch_in_an_order_of_seed_and_epoch():
    images = images_uint8(18)
    batches = batches_of(images, 4)
    epochs = [[batches(4 * epoch + i) for i in range(4)] for epoch in range(2)]
    orders = [torch.cat([b.ids for b in epoch]).tolist() for epoch in epochs]
    for order in orders:
        assert len(set(order)) == 16  # 18 images, two of them left out
    other = [torch.cat([batches_of(images, 4, seed=4)(i).ids for i in range(4)]).tolist()]
    assert orders[0] != orders[1] and orders[0] != other[0]
    for batch in (b for epoch in epochs for b in epoch):
        assert torch.equal(batch.images, from_uint8(images[batch.ids]))
        assert batch.labels is not None and torch.equal(batch.labels, batch.ids)
    # Asked for out of turn, as a resumed run does.
    assert torch.equal(batches_of(images, 4)(6).ids, epochs[1][2].ids)
    with pytest.raises(InputError, match="do not fill one batch"):
        batches_of(images, 19)


def test_flips_mirror_left_to_right():
    images = images_uint8(64)
    batches, plain = batches_of(images, 64, flip=True), batches_of(images, 64)
    seen = []
    for step in (0, 1):
        mirrored, upright = batches(step).images, plain(step).images
        same = (mirrored == upright).flatten(1).all(1)
        flipped = (mirrored == upright.flip(3)).flatten(1).all(1)
        assert bool((same | flipped).all()) and 10 < int(flipped.sum()) < 54
        seen.append(flipped)
    assert not torch.equal(*seen)
    assert torch.equal(batches_of(images, 64, flip=True)(1).images, batches(1).images)
