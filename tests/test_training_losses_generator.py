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
    gradient_penalty,
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


@pytest.mark.parametrize("norm", [0.0, 2.0, 7.0])
def test_the_gradient_penalty_of_a_linear_critic(norm):
    """Its slope is the same everywhere: that of its weights, by pixels in [-1, 1]."""
    direction = torch.randn(64)
    weights = norm * direction / direction.norm()

    def critic(images, labels):
        return ((2 * images - 1).flatten(1) * weights).sum(1) + labels

    linear: Any = critic
    found = gradient_penalty(linear, torch.rand(5, 1, 8, 8), torch.arange(5))
    assert found.item() == pytest.approx((norm - 1) ** 2, rel=1e-4, abs=1e-6)


def test_the_penalty_teaches_the_discriminator_alone():
    pair = Adversaries(decoder(), Discriminator(1, 4, [4, 6], normalize="none"), penalize=True)
    penalty = pair(torch.rand(4, 1, 8, 8), torch.arange(4), torch.randn(4, 5))[3]
    penalty.backward()
    assert all(weight.grad is None for weight in pair.generator.parameters())
    assert pair.discriminator.blocks[0].residual[1].weight.grad.abs().max() > 0  # pyright: ignore


def test_spectral_norm_makes_the_largest_singular_value_1():
    network = Discriminator(1, 3, [2])
    convolution: Any = network.blocks[0].shortcut
    convolution.parametrizations.weight.original.data = torch.tensor([3.0, 4.0]).view(2, 1, 1, 1)
    head: Any = network.head
    head.parametrizations.weight.original.data = torch.tensor([[0.0, -9.0]])
    label: Any = network.label
    label.parametrizations.weight.original.data = torch.diag(torch.tensor([2.0, 8.0, 1.0]))[:, :2]
    for _ in range(50):  # each pass in training is one power iteration
        network(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))
    network.eval()
    expected = {convolution: [0.6, 0.8], head: [0.0, -1.0], label: [0.25, 0, 0, 1, 0, 0]}
    for module, values in expected.items():
        torch.testing.assert_close(module.weight.flatten(), torch.tensor(values))
    plain = Discriminator(1, 3, [2], normalize="none")
    assert not any("parametrizations" in name for name in plain.state_dict())


def test_the_logit_of_a_projection_discriminator():
    network = Discriminator(1, 3, [4, 6], normalize="none")
    images = torch.rand(3, 1, 8, 8)
    realness = torch.stack([network(images, torch.full((3,), y)) for y in range(3)], 1)
    features = torch.relu(network.blocks(images * 2 - 1)).sum((2, 3))
    label: Any = network.label
    expected = network.head(features) + features @ label.weight.T
    torch.testing.assert_close(realness, expected)
    # Without classes, the label says nothing; as further channels, it says something.
    bare = Discriminator(1, None, [4, 6], normalize="none")
    assert torch.equal(
        bare(images, torch.tensor([0, 1, 2])), bare(images, torch.tensor([2, 2, 2]))
    )
    cgan = Discriminator(1, 3, [4, 6], labels="concat", normalize="batch").eval()
    assert cgan.label is None and isinstance(cgan.blocks[0].shortcut, nn.Conv2d)
    assert cgan.blocks[0].shortcut.in_channels == 4
    assert (
        cgan(images, torch.tensor([0] * 3)) - cgan(images, torch.tensor([1] * 3))
    ).abs().min() > 0


class Pair(nn.Module):
    """Gives known realness: of real images, of generated ones, and once more of these."""

    def __init__(self, *values):
        super().__init__()
        self.values = [torch.tensor(value) for value in values]

    def forward(self, images, labels, latents):
        return tuple(self.values)


@pytest.mark.parametrize(
    ("kind", "discriminator", "generator"),
    [
        ("hinge", (0 + 1.5) / 2 + (3 + 0) / 2, -0.0),
        ("wasserstein", 0.0 - 0.75, -0.0),
        ("logistic", (math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5))) / 2
         + (math.log1p(math.exp(2)) + math.log1p(math.exp(-2))) / 2,
         (math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2),
    ],
)  # fmt: skip
def test_adversarial_losses_in_closed_form(kind, discriminator, generator):
    batch = Samples(torch.rand(2, 1, 8, 8), torch.arange(2), torch.arange(2))
    pair = Pair([2.0, -0.5], [2.0, -2.0], [2.0, -2.0], 0.25)
    config = GeneratorConfig(
        latent_size=5, adversarial_loss=kind, gradient_penalty=10.0, discriminator_steps=3
    )
    loss = AdversarialLoss(config)
    for step, value in ((0, discriminator), (1, discriminator), (2, discriminator + generator)):
        found, numbers = loss(pair, batch, step)
        assert found.item() == pytest.approx(value + 2.5, rel=1e-5)
        assert numbers["penalty"] == 0.25
