"""The losses of GANs and VAEs: gradients of each network, closed forms, batch norms."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from burnish.networks.build import build
from burnish.networks.latent import Discriminator
from burnish.samples import Samples
from burnish.training.config import GeneratorConfig
from burnish.training.losses.generator import (
    AdversarialLoss,
    Adversaries,
    ElboLoss,
    recalibrate_batch_norm,
)

NETWORK = {"name": "decoder", "in_channels": 1, "num_classes": 4, "image_size": 8,
           "latent_size": 5, "widths": [8, 6, 4]}  # fmt: skip


def decoder() -> Any:
    found = build(NETWORK)
    for module in found.modules():
        if isinstance(module, nn.Embedding):  # classes that differ
            nn.init.normal_(module.weight, 1.0, 0.5)
    return found


def test_each_adversary_gets_its_own_gradient():
    pair = Adversaries(decoder(), Discriminator(1, 4, [4, 6, 8]))
    pair.discriminator.eval()  # holds still the vectors of the power iteration
    batch = Samples(torch.rand(8, 1, 8, 8), torch.arange(8) % 4, torch.arange(8))
    torch.manual_seed(1)
    AdversarialLoss(GeneratorConfig(latent_size=5))(pair, batch, 0)[0].backward()
    torch.manual_seed(1)
    latents = torch.randn(8, 5)
    generated = pair.generator(latents, batch.labels)
    realness = pair.discriminator(generated, batch.labels)
    known = pair.discriminator(batch.images, batch.labels)
    hinge = (1 - known).clamp(min=0).mean() + (1 + realness).clamp(min=0).mean()
    for part, loss in ((pair.generator, -realness.mean()), (pair.discriminator, hinge)):
        weights = dict(part.named_parameters())
        expected = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        assert any(gradient.abs().max() > 0 for gradient in expected)
        for (name, weight), gradient in zip(weights.items(), expected, strict=True):
            # One batch here, two there: sums of other orders. What is wrong is wrong by far more.
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_recalibrated_statistics_are_those_of_the_decoder():
    model = decoder()
    before = model.state_dict()["norm.norm.running_var"].clone()
    recalibrate_batch_norm(model, 0)
    latents, labels = torch.randn(4000, 5), torch.randint(4, (4000,))
    with torch.no_grad():
        found = model(latents, labels)
        recalibrated = {k: v.clone() for k, v in model.state_dict().items()}
        expected = model.train()(latents, labels)
    assert (found - expected).abs().mean() < 0.01
    assert not torch.allclose(before, recalibrated["norm.norm.running_var"])
    recalibrate_batch_norm(model, 0)
    assert all(torch.equal(v, recalibrated[k]) for k, v in model.state_dict().items())


class Codec(nn.Module):
    """Decodes to gray, whatever the image; its posterior is the same for all."""

    def forward(self, images, labels, noise):
        mean = torch.tensor([0.5, -1.0, 0.0]).expand(len(images), 3)
        log_variance = torch.tensor([0.2, -0.7, 0.0]).expand(len(images), 3)
        return torch.full_like(images, 0.5), mean, log_variance


def test_the_loss_is_the_negative_bound_in_closed_form():
    batch = Samples(torch.rand(24, 1, 8, 8), torch.arange(24) % 4, torch.arange(24))
    posterior = torch.distributions.Normal(
        torch.tensor([0.5, -1.0, 0.0]), torch.tensor([0.2, -0.7, 0.0]).mul(0.5).exp()
    )
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum().item()

    def value(kl_weight, noise_std=None):
        config = GeneratorConfig("vae", 3, kl_weight=kl_weight, noise_std=noise_std)
        return ElboLoss(config)(Codec(), batch, 0)[0].item()

    std = (batch.images - 0.5).square().mean().sqrt().item()
    gray = torch.distributions.Normal(torch.tensor(0.5), torch.tensor(0.2))
    expected = -gray.log_prob(batch.images).mean().item() - math.log(2 * math.pi) / 2
    assert value(0.0, 0.2) == pytest.approx(expected, rel=1e-4)
    # The width of its own is the best one, where the squared error is worth a half.
    assert value(0.0) + 0.5 == pytest.approx(value(0.0, std), rel=1e-4)
    assert all(value(0.0, std * factor) > value(0.0, std) for factor in (0.9, 1.1))
    assert value(3.0) - value(0.0) == pytest.approx(3 * divergence / 64, rel=1e-4)
