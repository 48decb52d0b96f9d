"""Random numbers depend on an image and a purpose, not on the batch, the process or the device."""

import itertools

import pytest
import torch

from burnish.errors import InputError
from burnish.seeds import Streams, parse_seeds, stream


def test_golden_values_pin_the_hash():
    # If these numbers change, every published seed gives another image.
    assert stream(7, "noise").initial_seed() == 3800222491387817958
    drawn = torch.randint(2**31, (2,), generator=stream(7, "noise"))
    assert drawn.tolist() == [2060603500, 1427300918]


def test_streams_differ_by_seed_and_purpose():
    purposes = ("noise", "sgld")
    drawn = [Streams([i], purpose).normal((8,))[0] for i in (0, 1, 10) for purpose in purposes]
    for one, other in itertools.combinations(drawn, 2):
        assert (one - other).abs().max() > 0.1


def test_an_image_draws_the_same_in_every_batch():
    ids = [5, 3, 9, 4]
    together = Streams(ids, "noise")
    images, classes, more = (
        together.normal((1, 2, 2)),
        together.integers(10),
        together.normal((2,)),
    )
    for place, i in enumerate(ids):
        alone = Streams([i], "noise")
        assert torch.equal(alone.normal((1, 2, 2))[0], images[place])
        assert alone.integers(10)[0] == classes[place]
        assert torch.equal(alone.normal((2,))[0], more[place])
    reversed_images = Streams(ids[::-1], "noise").normal((1, 2, 2))
    assert torch.equal(reversed_images.flip(0), images)


def test_distributions():
    streams = Streams(range(2000), "noise")
    normal, integers = streams.normal((3,)), streams.integers(4)
    assert normal.shape == (2000, 3) and normal.dtype == torch.float32
    assert integers.dtype == torch.int64
    # Six standard errors each way.
    assert abs(normal.mean()) < 6 / 6000**0.5
    assert abs(normal.var() - 1) < 6 * (2 / 6000) ** 0.5
    assert ((integers.bincount(minlength=4) - 500).abs() < 6 * (500 * 0.75) ** 0.5).all()


def test_parse_seeds():
    assert parse_seeds("0-3") == [0, 1, 2, 3]
    assert parse_seeds("7, 1,5-6 ") == [7, 1, 5, 6]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot read"),
        ("1,,2", "cannot read"),
        ("-3", "cannot read"),
        ("1.5", "cannot read"),
        ("5-2", "backwards"),
        ("1,0-3", "twice"),
    ],
)
def test_parse_seeds_faults(text, reason):
    with pytest.raises(InputError, match=reason):
        parse_seeds(text)
