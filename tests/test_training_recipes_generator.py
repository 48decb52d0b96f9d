"""VAEs, GANs and Gaussians: killed trainings, moments, faults."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from training_setup import SHORT, data_of, real_images

from burnish.errors import InputError
from burnish.generators.load import load_generator
from burnish.networks.build import build
from burnish.seeds import Streams
from burnish.storage.datasets import load_dataset
from burnish.training.config import GeneratorConfig, TrainingConfig
from burnish.training.experiment import Experiment
from burnish.training.losses.generator import AdversarialLoss, ElboLoss
from burnish.training.train import train

STEPS = replace(SHORT, num_steps=6, save_every=2, log_every=1)


class Killed(Exception):
    pass


def trained(out, data, config):
    (path,) = train("generator", Experiment("it", data_of(data), generator=config), out=out)
    return path


@pytest.mark.parametrize(("family", "loss"), [("vae", ElboLoss), ("gan", AdversarialLoss)])
def test_a_killed_training_ends_with_the_same_bytes(tmp_path, monkeypatch, family, loss):
    data = real_images(tmp_path / "real.npz")
    config = GeneratorConfig(family, latent_size=5, widths=(8, 6, 4), training=STEPS)
    whole, call = trained(tmp_path / "whole", data, config), loss.__call__

    def killed(self, model, batch, step):
        if step == 5:
            raise Killed
        return call(self, model, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(loss, "__call__", killed)
        with pytest.raises(Killed):
            trained(tmp_path / "cut", data, config)
    path = trained(tmp_path / "cut", data, config)
    assert path.read_bytes() == whole.read_bytes()
    model = load_generator(path)
    assert model.card["kind"] == family and model.image_shape == (1, 8, 8)
    log = [json.loads(line) for line in (path.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]


RECIPES = {
    "sngan": {"conditional": False},
    "wgan-gp": {"conditional": False, "discriminator_norm": "none", "gradient_penalty": 10.0,
                "adversarial_loss": "wasserstein", "discriminator_steps": 5},
    "dcgan": {"conditional": False, "discriminator_norm": "batch", "adversarial_loss": "logistic"},
    "cgan": {"discriminator_labels": "concat", "discriminator_norm": "batch",
             "adversarial_loss": "logistic"},
    "cgan-pd": {},
    "vae": {"family": "vae", "conditional": False},
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_published_recipes_of_gans_are_settings(name, tmp_path):
    data, settings = real_images(tmp_path / "real.npz"), RECIPES[name]
    config = GeneratorConfig(latent_size=5, widths=(8, 6, 4), training=STEPS, **settings)
    model = load_generator(trained(tmp_path, data, config))
    classes = 4 if settings.get("conditional", True) else None
    assert model.num_classes == classes and model.image_shape == (1, 8, 8)
    found = model.sample([1, 2])
    assert (found.labels is None) == (classes is None)
    log = [json.loads(line) for line in (tmp_path / "it/generator/log.jsonl").open()]
    assert ("penalty" in log[0]) == (name == "wgan-gp")


def test_a_gaussian_has_the_moments_of_its_classes(tmp_path):
    file = real_images(tmp_path / "real.npz", 400)
    data = load_dataset(str(file), "0-31")
    path = trained(tmp_path, file, GeneratorConfig("gaussian", latent_size=64))
    model = load_generator(path)
    assert model.card["kind"] == "gaussian" and model.nfe == 1
    network: Any = model.network
    values = data.images_uint8.flatten(1).double() / 255
    means = torch.stack([values[data.labels == label].mean(0) for label in range(4)])
    torch.testing.assert_close(network.means.double(), means, rtol=0, atol=1e-6)
    covariance = (values - means[data.labels]).T.cov(correction=0)
    basis = network.basis.double()  # as many directions as values: nothing is lost
    torch.testing.assert_close(basis.T @ basis, covariance, rtol=0, atol=1e-6)
    samples = model.sample([3, 4], torch.tensor([1, 2]))
    latents = Streams([3, 4], "noise").normal((64,))
    expected = (means[[1, 2]] + latents.double() @ basis).clamp(0, 1).view(2, 1, 8, 8)
    torch.testing.assert_close(samples.images.double(), expected, rtol=0, atol=1e-5)
    # Of fewer directions, those of most variance.
    few: Any = build({"name": "gaussian", "in_channels": 1, "num_classes": 4, "image_size": 8,
                      "latent_size": 3})  # fmt: skip
    few.fit(data.images_uint8, data.labels)
    torch.testing.assert_close(few.basis, network.basis[-3:])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "no section generator"),
        (GeneratorConfig(widths=(8, 8, 8, 8, 8)), "8 pixels cannot be halved 4 times"),
        (GeneratorConfig(widths=(8,), encoder_widths=(4,) * 5), "cannot be halved 4 times"),
        (GeneratorConfig("gaussian", latent_size=65), "latent_size must be 1 .. 64"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(tmp_path, config, reason):
    with pytest.raises(InputError, match=reason):
        trained(tmp_path, real_images(tmp_path / "real.npz"), config)


@pytest.mark.parametrize(
    "wrong",
    [{"widths": ()}, {"encoder_widths": (0,)}, {"noise_std": 0.0}, {"latent_size": 0},
     {"gradient_penalty": 10.0, "discriminator_norm": "batch"}, {"discriminator_steps": 0},
     {"family": "gaussian", "conditional": False}, {"adversarial_loss": "l2"},
     {"training": {"momentum": 1.0}}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        if "training" in wrong:
            TrainingConfig(**wrong["training"])
        else:
            GeneratorConfig(**wrong)
