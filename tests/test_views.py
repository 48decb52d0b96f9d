"""Views against closed forms, and a judge that learns from them without seeing a label."""

import dataclasses
import json
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from burnish.checkpoint import load_model
from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.jobs.scoring import evaluate_file
from burnish.storage.datasets import Dataset
from burnish.training.config import Experiment, JudgeConfig, TrainingConfig, ViewsConfig
from burnish.training.losses.contrastive import (
    contrastive_loss,
    crop,
    matched,
    random_views,
    recolor,
)
from burnish.training.recipes import train_judge

CONFIG = ViewsConfig()


def ones(count):
    return torch.ones(count)


def test_a_crop_of_a_slope_is_the_slope_within_the_box():
    # Bilinear interpolation is exact on what is linear; pixel centres lie half a pixel inside.
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
def test_a_whole_crop_and_no_change_of_colour_give_the_image(channels, size):
    images, count = torch.rand(4, channels, size, size), 4
    mirrored = torch.arange(count) % 2 == 0
    found = crop(images, torch.zeros(count, 2), torch.ones(count, 2), mirrored)
    torch.testing.assert_close(found[1::2], images[1::2], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[::2], images[::2].flip(3), rtol=0, atol=1e-5)
    same = recolor(images, ones(4), ones(4), ones(4), 0 * ones(4))
    torch.testing.assert_close(same, images, rtol=0, atol=1e-6)


def test_colours_of_known_changes():
    images, one = 0.2 + 0.3 * torch.rand(2, 3, 5, 5), ones(2)
    third = recolor(images, one, one, one, one * 2 * math.pi / 3)
    torch.testing.assert_close(third, images.roll(1, 1))  # red goes to green
    luma = (torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1) * images).sum(1, keepdim=True)
    grey = recolor(images, one, one, 0 * one, 0 * one)
    torch.testing.assert_close(grey, luma.expand_as(images))
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
    first, second = random_views(images, CONFIG), random_views(images, CONFIG)
    torch.manual_seed(3)
    assert torch.equal(random_views(images, CONFIG), first)
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=0)) == 16
    assert first.shape == images.shape and first.min() >= 0 and first.max() <= 1
    # A slope rises to the right in any crop of it, unless mirrored.
    slope = torch.linspace(0.3, 0.6, 28).expand(64, channels, 28, 28)
    for mirror, low, high in ((False, 0, 0), (True, 20, 44)):
        views = random_views(slope, CONFIG, mirror).mean((1, 2))
        assert low <= int((views[:, 0] > views[:, -1]).sum()) <= high


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


def shapes(count, channels=1, size=12):
    """Images of four classes: a bright square in one of four corners, on noise."""
    generator = torch.Generator().manual_seed(channels)
    images = torch.randint(0, 80, (count, channels, size, size), generator=generator)
    labels = torch.arange(count) % 4
    corners = one_hot(labels, 4).view(count, 1, 2, 2) * 150
    images = images + corners.repeat_interleave(size // 2, 2).repeat_interleave(size // 2, 3)
    return Dataset(images.to(torch.uint8), labels, "shapes")


def trained(folder, data, **changes):
    training = TrainingConfig(
        num_steps=6, batch_size=16, learning_rate=0.01, warmup_steps=1, ema_decay=0.5,
        mixed_precision="no",
    )  # fmt: skip
    network = {"name": "judge", "widths": [4, 6], "num_features": 5}
    config = dataclasses.replace(JudgeConfig(network, "views", training=training), **changes)
    experiment = Experiment("shapes", judges={"blind": config})
    return train_judge(experiment, "blind", data, data, folder, "cpu")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_judge_of_views_reads_no_label_and_does_not_classify(tmp_path, channels):
    data = shapes(64, channels)
    others = Dataset(data.images_uint8, torch.zeros_like(data.labels), data.source)
    path = trained(tmp_path / "labels", data)
    weights = [load_model(p)[0].state_dict() for p in (path, trained(tmp_path / "none", others))]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())

    card = load_model(path)[1]
    assert card["classifies"] is False and card["network"]["num_classes"] == 64
    assert 0 < card["validation"]["matched_views"] <= 1
    with pytest.raises(InputError, match="does not classify"):
        load_guide(str(path))

    for name, size in (("real", 12), ("small", 8)):
        images = shapes(64, channels, size).images_uint8.permute(0, 2, 3, 1).numpy()
        np.savez(tmp_path / f"{name}.npz", arr_0=images)
    score = evaluate_file(tmp_path / "real.npz", str(tmp_path / "real.npz"), str(path))
    assert score["inception_score"] is None and score["inception_score_std"] is None
    assert score["feature_extractor"] == "judge:shapes/blind (self-supervised)"
    assert score["fid"] == pytest.approx(0, abs=1e-6) and score["precision"] == 1
    # Of another size it would give features too, but of something else.
    with pytest.raises(InputError, match=rf"\[{channels}, 12, 12\], not \[{channels}, 8, 8\]"):
        evaluate_file(tmp_path / "small.npz", str(tmp_path / "real.npz"), str(path))
    with pytest.raises(InputError, match="takes images of shape"):
        evaluate_file(tmp_path / "real.npz", str(tmp_path / "small.npz"), str(path))


def test_a_judge_of_labels_is_what_it_was(tmp_path):
    path = trained(tmp_path, shapes(64), task="labels")
    card = load_model(path)[1]
    assert card["classifies"] is True and card["network"]["num_classes"] == 4
    assert "accuracy" in card["validation"] and "views" not in card
    settings = json.loads((tmp_path / "judge-blind" / "config.json").read_text())
    assert settings.keys() == {"network", "training", "data", "data_sha256"}
    # Runs of old, which kept no hash, are still its runs; another hash is another run.
    for change, fits in (({}, True), ({"data_sha256": "0"}, False)):
        del settings["data_sha256"]
        settings |= change
        (tmp_path / "judge-blind" / "config.json").write_text(json.dumps(settings))
        with nullcontext() if fits else pytest.raises(InputError, match="or data"):
            trained(tmp_path, shapes(64), task="labels")
        settings.setdefault("data_sha256", "")


def test_training_learns_to_pair_views(tmp_path):
    training = TrainingConfig(
        num_steps=60, batch_size=32, learning_rate=0.01, warmup_steps=5, ema_decay=0.9,
        mixed_precision="no", log_every=10, validate_every=60,
    )  # fmt: skip
    trained(tmp_path, shapes(128), training=training)
    lines = [json.loads(line) for line in (tmp_path / "judge-blind/log.jsonl").open()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize(
    "changes, reason",
    [({"min_area": 0.0}, "min_area"), ({"temperature": 0.0}, "temperature"), ({"hue": -1}, "hue")],
)
def test_views_out_of_range(changes, reason):
    with pytest.raises(InputError, match=reason):
        ViewsConfig(**changes)
