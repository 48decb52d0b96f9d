"""Each network of a GAN gets its own gradient; batch norms are recalibrated."""

from typing import Any

import torch
from torch import nn

from burnish.networks.build import build
from burnish.networks.encoder import Discriminator
from burnish.samples import Samples
from burnish.training.losses.adversarial import (
    AdversarialLoss,
    Adversaries,
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
    AdversarialLoss(5)(pair, batch, 0)[0].backward()
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
    recalibrate_batch_norm(model, 0, num_batches=20, batch_size=100)
    latents, labels = torch.randn(4000, 5), torch.randint(4, (4000,))
    with torch.no_grad():
        found = model(latents, labels)
        recalibrated = {k: v.clone() for k, v in model.state_dict().items()}
        expected = model.train()(latents, labels)
    assert (found - expected).abs().mean() < 0.01
    assert not torch.allclose(before, recalibrated["norm.norm.running_var"])
    recalibrate_batch_norm(model, 0, num_batches=20, batch_size=100)
    assert all(torch.equal(v, recalibrated[k]) for k, v in model.state_dict().items())
