"""Images that two sets share are found through rounding, and others are not taken for them."""

import numpy as np
import pytest

from burnish.metrics.overlap import marks_of, num_repeats, shared

RNG = np.random.default_rng(0)
REAL = np.maximum(RNG.standard_normal((400, 16)) + 0.5, 0).astype(np.float32)
OTHERS = np.maximum(RNG.standard_normal((300, 16)) + 0.5, 0).astype(np.float32)
NOISE = RNG.standard_normal((400, 16))


@pytest.mark.parametrize(
    "stored",
    [
        REAL,
        REAL[::-1],
        np.repeat(REAL, 3, axis=0),
        (REAL * (1 + 1e-6 * NOISE)).astype(np.float32),
        REAL.astype(np.float16),
        np.vstack([REAL, np.repeat(OTHERS[-1:], 500, axis=0)]),
    ],
    ids=["same", "reversed", "repeated", "rounded", "float16", "beside many that are one"],
)
def test_copies_are_found_and_nothing_else(stored):
    some = np.vstack([OTHERS[:50], REAL[7:27], OTHERS[50:80]])
    assert np.flatnonzero(shared(marks_of(some), marks_of(stored))).tolist() == [*range(50, 70)]
    assert not shared(marks_of(OTHERS[:80]), marks_of(stored[:0])).any()


def test_near_images_are_no_copies():
    near = (REAL * (1 + 0.01 * NOISE)).astype(np.float32)
    assert not shared(marks_of(near), marks_of(REAL)).any()


@pytest.mark.parametrize(
    ("rows", "count"),
    [(REAL, 0), (np.repeat(REAL[:100], 4, axis=0), 300), (REAL[:1].repeat(90, 0), 89)],
)
def test_repeats_are_counted(rows, count):
    assert num_repeats(marks_of(rows[RNG.permutation(len(rows))])) == count
