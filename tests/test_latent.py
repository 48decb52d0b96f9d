"""VAEs and GANs: losses as derived, images that are their seeds', files, killed trainings."""

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from burnish import recipes
from burnish.errors import InputError
from burnish.generators.latent import LatentModel
from burnish.generators.load import load_generator
from burnish.networks.build import build
from burnish.networks.encoder import Discriminator
from burnish.seeds import Streams
from burnish.storage.datasets import Dataset
from burnish.training.config import (
    Experiment,
    GeneratorConfig,
    JointConfig,
    TrainingConfig,
)
from burnish.training.losses.adversarial import AdversarialLoss, Adversaries, settle
from burnish.training.losses.elbo import EvidenceLoss
from burnish.training.recipes.joint import _fakes_of

NETWORK = {"name": "decoder", "in_channels": 1, "num_classes": 4, "image_size": 8,
           "latent_size": 5, "widths": [8, 6, 4]}  # fmt: skip
NETWORK_OF_GAUSSIAN: dict[str, Any] = {
    "name": "gaussian", "in_channels": 1, "num_classes": 4, "image_size": 8
}  # fmt: skip
STEPS = TrainingConfig(num_steps=6, batch_size=8, warmup_steps=1, save_every=2, log_every=1)


def decoder(**more) -> Any:
    torch.manual_seed(0)
    found = build({**NETWORK, **more})
    for module in found.modules():
        if isinstance(module, nn.Embedding):  # classes that differ
            nn.init.normal_(module.weight, 1.0, 0.5)
    return found


def latent(**card):
    return LatentModel(decoder(), {"kind": "gan", "network": NETWORK, **card})


def real(count=24):
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Dataset(images, torch.arange(count) % 4, "noise")


# Losses.


def test_each_adversary_gets_its_own_gradient():
    pair = Adversaries(decoder(), Discriminator(1, 4, [4, 6, 8]))
    pair.discriminator.eval()  # holds still the vectors of the power iteration
    batch = real().samples(slice(0, 8))
    torch.manual_seed(1)
    AdversarialLoss(5)(pair, batch, 0)[0].backward()
    torch.manual_seed(1)
    latents = torch.randn(8, 5)
    fakes = pair.generator(latents, batch.labels)
    judged = pair.discriminator(fakes, batch.labels)
    known = pair.discriminator(batch.images, batch.labels)
    hinge = (1 - known).clamp(min=0).mean() + (1 + judged).clamp(min=0).mean()
    for part, loss in ((pair.generator, -judged.mean()), (pair.discriminator, hinge)):
        weights = dict(part.named_parameters())
        expected = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        assert any(gradient.abs().max() > 0 for gradient in expected)
        for (name, weight), gradient in zip(weights.items(), expected, strict=True):
            # One batch here, two there: sums of other orders. What is wrong is wrong by far more.
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-5, msg=name)


class Codec(nn.Module):
    """Decodes to grey, whatever the image; its posterior is the same for all."""

    def forward(self, images, labels, noise):
        mean = torch.tensor([0.5, -1.0, 0.0]).expand(len(images), 3)
        log_variance = torch.tensor([0.2, -0.7, 0.0]).expand(len(images), 3)
        return torch.full_like(images, 0.5), mean, log_variance


def test_evidence_loss():
    batch = real().samples()
    posterior = torch.distributions.Normal(
        torch.tensor([0.5, -1.0, 0.0]), torch.tensor([0.2, -0.7, 0.0]).mul(0.5).exp()
    )
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum().item()

    def value(kl_weight, noise_std=None):
        return EvidenceLoss(3, kl_weight, noise_std)(Codec(), batch, 0)[0].item()

    std = (batch.images - 0.5).square().mean().sqrt().item()
    grey = torch.distributions.Normal(torch.tensor(0.5), torch.tensor(0.2))
    expected = -grey.log_prob(batch.images).mean().item() - math.log(2 * math.pi) / 2
    assert value(0.0, 0.2) == pytest.approx(expected, rel=1e-4)
    # The width of its own is the best one, where the squared error is worth a half.
    assert value(0.0) + 0.5 == pytest.approx(value(0.0, std), rel=1e-4)
    assert all(value(0.0, std * factor) > value(0.0, std) for factor in (0.9, 1.1))
    assert value(3.0) - value(0.0) == pytest.approx(3 * divergence / 64, rel=1e-4)


def test_settled_statistics_are_those_of_the_decoder():
    model = decoder(latent_size=5)
    before = model.state_dict()["norm.norm.running_var"].clone()
    settle(model, 0, num_batches=20, batch_size=100)
    latents, labels = torch.randn(4000, 5), torch.randint(4, (4000,))
    with torch.no_grad():
        found = model(latents, labels)
        settled = {k: v.clone() for k, v in model.state_dict().items()}
        expected = model.train()(latents, labels)
    assert (found - expected).abs().mean() < 0.01
    assert not torch.allclose(before, settled["norm.norm.running_var"])
    settle(model, 0, num_batches=20, batch_size=100)
    assert all(torch.equal(v, settled[k]) for k, v in model.state_dict().items())


# Recipes.


class Killed(Exception):
    pass


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_a_killed_training_ends_with_the_same_bytes(tmp_path, monkeypatch, family):
    config = GeneratorConfig(family, latent_size=5, widths=(8, 6, 4), training=STEPS)
    experiment = Experiment("tiny", generator=config)
    whole = recipes.train_generator(experiment, real(), tmp_path / "whole", "cpu")
    kind = AdversarialLoss if family == "gan" else EvidenceLoss
    call = kind.__call__

    def killed(self, model, batch, step):
        if step == 5:
            raise Killed
        return call(self, model, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "__call__", killed)
        with pytest.raises(Killed):
            recipes.train_generator(experiment, real(), tmp_path / "cut", "cpu")
    path = recipes.train_generator(experiment, real(), tmp_path / "cut", "cpu")
    assert path.read_bytes() == whole.read_bytes()
    model = load_generator(str(path))
    assert model.card["kind"] == family and model.image_shape == (1, 8, 8)
    log = [json.loads(line) for line in (path.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]


def test_a_gaussian_has_the_moments_of_its_classes(tmp_path):
    data = real(400)
    config = GeneratorConfig("gaussian", latent_size=64)
    path = recipes.train_generator(Experiment("it", generator=config), data, tmp_path, "cpu")
    model = load_generator(str(path))
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
    assert (samples.images == 0).any()  # clamped
    # Of fewer directions, those of most variance.
    few: Any = build({**NETWORK_OF_GAUSSIAN, "latent_size": 3})
    few.fit(data.images_uint8, data.labels)
    torch.testing.assert_close(few.basis, network.basis[-3:])
    gap = dataclasses.replace(real(3), labels=torch.tensor([0, 1, 3]))
    faults = ((65, data, "latent_size must be 1 .. 64"), (3, gap, "no image of class 2"))
    for latent_size, images, reason in faults:
        config = GeneratorConfig("gaussian", latent_size=latent_size)
        with pytest.raises(InputError, match=reason):
            recipes.train_generator(Experiment("it", generator=config), images, tmp_path, "cpu")


def test_faults_of_generator_recipes(tmp_path):
    for config, reason in (
        (None, "no section generator"),
        (GeneratorConfig(widths=(8, 8, 8, 8, 8)), "8 pixels cannot be halved 4 times"),
        (GeneratorConfig(widths=(8,), reader_widths=(4,) * 5), "cannot be halved 4 times"),
    ):
        with pytest.raises(InputError, match=reason):
            recipes.train_generator(Experiment("it", generator=config), real(), tmp_path, "cpu")
    wrongs: tuple[dict[str, Any], ...]
    wrongs = {"widths": ()}, {"reader_widths": (0,)}, {"noise_std": 0.0}, {"latent_size": 0}
    for wrong in wrongs:
        with pytest.raises(InputError):
            GeneratorConfig(**wrong)
    with pytest.raises(InputError, match="momentum must be below 1"):
        TrainingConfig(momentum=1.0)


def test_fakes_come_from_a_decoder_where_there_is_no_consistency_model(tmp_path):
    with pytest.raises(InputError, match="train the generator first"):
        _fakes_of(JointConfig(), tmp_path, "cpu")
    latent().save(tmp_path / "generator" / "model.safetensors")
    fakes = _fakes_of(JointConfig(num_fakes=30, fake_seed=7), tmp_path, "cpu")
    expected = latent().sample(range(7, 37)).labels
    assert expected is not None and torch.equal(fakes.labels, expected)
