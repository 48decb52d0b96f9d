"""Batches made ahead are the batches; changes of images are functions of (seed, step, place)."""

from dataclasses import replace

import pytest
import torch

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8
from burnish.storage.datasets import Dataset
from burnish.storage.disk_dataset import open_dataset
from burnish.storage.formats import write_samples
from burnish.training.augment import augment
from burnish.training.batches import Ahead, Batches, Pairs
from burnish.training.config import AugmentConfig, TrainingConfig

CONFIG = TrainingConfig(num_steps=6, batch_size=8, flip=True, seed=3)
ALL = AugmentConfig(min_area=0.3, mirror=True, upside_down=True, rotation=180.0)


def data_of(count=30, size=12):
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return Dataset(images, torch.arange(count) % 4, "random")


@pytest.fixture
def on_disk(tmp_path):
    path = write_samples(tmp_path / "set.tar", [data_of().samples()], 30)
    return open_dataset(str(path))


def same(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("images", "labels", "ids")
    )


def test_disk_and_memory_give_the_same_batches(on_disk):
    for step in (0, 2, 3, 7):
        assert same(Batches(on_disk, CONFIG)(step), Batches(data_of(), CONFIG)(step))


def test_workers_make_the_same_batches_and_draw_from_no_stream_of_the_training(on_disk):
    sides = Pairs(Batches(on_disk, CONFIG), Batches(on_disk, CONFIG, offset=1, changes=ALL))
    ahead = Ahead(sides, 6, num_workers=2)
    state = torch.get_rng_state()
    for step in (2, 3, 4, 0, 5):  # a resumed training begins anywhere
        found = ahead(step)
        assert isinstance(found, tuple)
        assert all(same(*pair) for pair in zip(found, sides(step), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_wrong_with_an_image_is_said_in_one_line(tmp_path):
    path = write_samples(tmp_path / "set", [data_of(8).samples()], 8)
    data = open_dataset(str(path))
    next(path.rglob("*5.png")).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"5\.png is not a readable image") as error:
        Ahead(Batches(data, replace(CONFIG, num_steps=1)), 1, num_workers=1)(0)
    assert "\n" not in str(error.value)


def test_parts_of_a_batch_change_as_the_whole_does(monkeypatch):
    whole = [Batches(data_of(), CONFIG, changes=ALL)(step) for step in (0, 1)]
    for name, value in {"LOCAL_RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    parts = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(Batches(data_of(), CONFIG, changes=ALL)(1))
    assert same(Samples.joined(parts), whole[1])
    assert not torch.equal(whole[0].images, whole[1].images)


def changed(images, seed=0, step=0, first=0, **how):
    count = torch.arange(len(images))
    return augment(Samples(images, count, count), AugmentConfig(**how), seed, step, first).images


def test_each_image_changes_by_seed_step_and_place():
    one = from_uint8(data_of(1).images_uint8)
    images = one.expand(8, -1, -1, -1)
    base = changed(images, min_area=0.3, rotation=90.0)
    assert len({image.numpy().tobytes() for image in base}) == 8
    assert torch.equal(base[3:], changed(images[3:], first=3, min_area=0.3, rotation=90.0))
    for other in ({"seed": 1}, {"step": 1}):
        assert not torch.equal(base, changed(images, min_area=0.3, rotation=90.0, **other))
    assert changed(images) is images or torch.equal(changed(images), images)


def test_mirrors_are_exact_and_crops_are_parts():
    images = from_uint8(data_of(200).images_uint8)
    for how, axis in (("mirror", 3), ("upside_down", 2)):
        found = changed(images, **{how: True})
        same, other = ((found == x).flatten(1).all(1) for x in (images, images.flip(axis)))
        assert bool((same | other).all()) and 60 < int(other.sum()) < 140
    # A ramp stays a ramp, over a part of its range.
    ramp = torch.linspace(0, 1, 32).expand(200, 1, 32, 32)
    found = changed(ramp, min_area=0.25, max_aspect=1.0)
    span = found[:, 0, 16, -1] - found[:, 0, 16, 0]
    assert 0.4 < float(span.min()) < 0.6 and 0.9 < float(span.max()) <= 1
    assert float(found.min()) >= 0 and float(found.max()) <= 1
