"""Feature extractors: classifiers, and networks that see no label."""

import json
from dataclasses import replace

import pytest
import torch
from training_setup import SHORT, data_of, real_images

from burnish.checkpoint import load_model
from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.training.config import FeaturesConfig
from burnish.training.experiment import Experiment
from burnish.training.train import train

NETWORK = {"name": "convnet", "widths": [4, 6], "num_features": 5, "dropout": 0.0}
VIEWS = FeaturesConfig(NETWORK, "views", training=SHORT)
LABELS = FeaturesConfig(NETWORK, "labels", training=SHORT)


def trained(out, data, config):
    experiment = Experiment("it", data_of(data), {"plain": config})
    (path,) = train("features", experiment, out=out)
    assert path == out / "it" / "features-plain" / "model.safetensors"
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_views_reads_no_label(tmp_path, channels):
    paths = []
    for num_classes in (4, 1):
        data = real_images(tmp_path / f"{num_classes}.npz", 48, channels, num_classes)
        paths.append(trained(tmp_path / str(num_classes), data, VIEWS))
    one, other = (load_model(path)[0].state_dict() for path in paths)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_network_of_views_does_not_classify(tmp_path):
    path = trained(tmp_path, real_images(tmp_path / "real.npz"), VIEWS)
    card = load_model(path)[1]
    assert card["classifies"] is False and card["network"]["num_classes"] == 64
    assert 0 < card["validation"]["matched_views"] <= 1
    with pytest.raises(InputError, match="does not classify"):
        load_guide(path)


def test_a_classifier_has_classes_and_no_settings_of_views(tmp_path):
    path = trained(tmp_path, real_images(tmp_path / "real.npz"), LABELS)
    card = load_model(path)[1]
    assert card["classifies"] is True and card["network"]["num_classes"] == 4
    assert 0 <= card["validation"]["accuracy"] <= 1 and "views" not in card
    settings = json.loads((path.parent / "config.json").read_text())
    assert settings.keys() == {"network", "training", "data", "data_sha256"}


@pytest.mark.parametrize("config", [LABELS, VIEWS])
def test_training_lowers_the_loss(tmp_path, config):
    training = replace(
        SHORT, num_steps=40, batch_size=16, learning_rate=0.01, log_every=5, ema_decay=0.9
    )
    path = trained(tmp_path, real_images(tmp_path / "r.npz"), replace(config, training=training))
    lines = [json.loads(line) for line in (path.parent / "log.jsonl").open()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 0.2


def test_a_finished_extractor_refuses_other_images(tmp_path):
    trained(tmp_path, real_images(tmp_path / "real.npz"), LABELS)
    with pytest.raises(InputError, match="other settings or data"):
        trained(tmp_path, real_images(tmp_path / "real.npz", num_classes=2), LABELS)


@pytest.mark.parametrize(
    "wrong", [{"in_channels": 3}, {"num_classes": 3}, {"num_classes": "many"}]
)
def test_networks_for_other_data_are_refused(tmp_path, wrong):
    config = replace(LABELS, network={**NETWORK, **wrong})
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        trained(tmp_path, real_images(tmp_path / "real.npz"), config)
