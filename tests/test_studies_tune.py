"""Tuning: the rule, and what is tried for which guide."""

import numpy as np
import pytest

from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.metrics.features import Features
from burnish.studies.tune import TuneOptions, choose, tune


class Pixels:
    """Features that are the first pixels themselves."""

    name, sha256, dim = "pixels", "0" * 64, 4

    def __call__(self, images_uint8):
        return Features(images_uint8.flatten(1)[:, :4].float() / 255, None)


@pytest.fixture
def write_images(tmp_path):
    def write(name, count):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 1), np.uint8)
        np.savez(tmp_path / name, arr_0=pixels, arr_1=np.arange(count) % 4)
        return tmp_path / name

    return write


def test_the_lowest_fid_within_the_loss_of_recall_is_chosen():
    rows = [
        {"fid": fid, "recall": recall} for fid, recall in ((9, 0.5), (7, 0.49), (5, 0.4), (8, 0.6))
    ]
    assert choose(rows, 0.02) is rows[1]
    assert choose(rows, 0.2) is rows[2]
    assert choose(rows, 0.0) is rows[3]
    assert choose(rows[:1], 0.0) is rows[0]


def test_all_combinations_are_tried_on_the_same_samples(guide, write_images):
    samples, real = write_images("samples.npz", 30), str(write_images("real.npz", 40))
    options = TuneOptions((0.0, 1.0), (2, 3), (1.0,), ("logit", "ce"), precision="float32")
    result = tune(samples, guide, real, Pixels(), options)
    before, *rows = result["rows"]
    tried = [tuple(row["refine"].values()) for row in rows]
    assert tried == [
        (eps, steps, 1.0, name)
        for eps in (0.0, 1.0)
        for steps in (2, 3)
        for name in ("logit", "ce")
    ]
    # A radius of 0 changes nothing.
    assert [row["fid"] == before["fid"] for row in rows] == [True] * 4 + [False] * 4
    assert before["refine"] is None and before["nfe"] == 0 and rows[0]["nfe"] == 2
    assert result["chosen"] == choose(result["rows"], 0.02)["refine"]


def test_a_classifier_climbs_the_cross_entropy_and_never_stops(guide, write_images):
    samples, real = write_images("samples.npz", 30), str(write_images("real.npz", 40))
    classifier = Guide(guide.network, {"name": "plain"}).eval()
    result = tune(samples, classifier, real, Pixels(), TuneOptions((1.0,), (1,)))
    assert result["guide"] == "plain"
    assert result["rows"][1]["refine"] == {
        "eps": 1.0, "num_steps": 1, "stop_quantile": None, "objective": "ce"
    }  # fmt: skip


def test_too_few_images_for_a_recall_are_refused(guide, write_images):
    real = str(write_images("real.npz", 40))
    with pytest.raises(InputError, match="too few images"):
        tune(write_images("few.npz", 3), guide, real, Pixels())
