"""The losses of a GAN: two networks in one module, their hinge losses in one sum.

With D the realness that the discriminator gives:

* discriminator: mean max(0, 1 - D(x, y)) + mean max(0, 1 + D(G(z, y), y)), G constant
* generator: -mean D(G(z, y), y), D constant

Lim & Ye 2017, "Geometric GAN", https://arxiv.org/abs/1705.02894; Miyato et al. 2018, "Spectral
Normalization for Generative Adversarial Networks", equations 16 and 17,
https://arxiv.org/abs/1802.05957.

As each is a constant to the other's weights, one backward pass gives every weight its own
gradient, and both networks make their steps at once. Do not clip gradients by their norm here:
that of one network would decide how far the other goes.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from burnish.networks.decoder import Decoder
from burnish.networks.encoder import Discriminator
from burnish.samples import Samples
from burnish.seeds import stream

__all__ = ["AdversarialLoss", "Adversaries", "recalibrate_batch_norm"]


class Adversaries(nn.Module):
    """A generator and the discriminator that it is trained against."""

    def __init__(self, generator: Decoder, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(
        self, images: Tensor, labels: Tensor, latents: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return three times realness ``[B]``.

        Of real images and of generated ones, which teach the discriminator; and of the same
        generated ones once more, which teaches the generator.
        """
        generated = self.generator(latents, labels)
        both = torch.cat([images, generated.detach()])
        of_real, of_generated = self.discriminator(both, labels.repeat(2)).chunk(2)
        constant = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        raised = functional_call(self.discriminator, constant, (generated, labels))
        return of_real, of_generated, raised


class AdversarialLoss:
    """The sum of both hinge losses for latents of a size; the discriminator's begins at 2."""

    def __init__(self, latent_size: int) -> None:
        self.latent_size = latent_size

    def __call__(
        self, model: nn.Module, batch: Samples, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and the numbers to log."""
        del step
        latents = torch.randn(len(batch), self.latent_size).to(batch.images.device)
        of_real, of_generated, raised = model(batch.images, batch.labels, latents)
        discriminator = torch.relu(1 - of_real).mean() + torch.relu(1 + of_generated).mean()
        numbers = {
            "discriminator": discriminator.item(),
            "realness_real": of_real.mean().item(),
            "realness_generated": of_generated.mean().item(),
        }
        return discriminator - raised.mean(), numbers


@torch.no_grad()
def recalibrate_batch_norm(
    decoder: Decoder, seed: int, num_batches: int = 20, batch_size: int = 100
) -> None:
    """Measure the statistics of the batch norms anew, on random latents and labels.

    Averaged weights have other statistics than those that training averaged, which belong to other
    weights. These are "standing statistics": Brock et al. 2019, "Large Scale GAN Training for High
    Fidelity Natural Image Synthesis", appendix on sampling, https://arxiv.org/abs/1809.11096.

    Args:
        decoder: Changed in place; in eval mode afterwards.
        seed: Of latents and labels.
        num_batches: Batches whose statistics are averaged.
        batch_size: Images per batch.
    """
    norms = [module for module in decoder.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    # The name of a stream is part of its numbers; another one would change every GAN.
    generator, device = stream(seed, "settle"), next(decoder.parameters()).device
    decoder.train()
    for _ in range(num_batches):
        latents = torch.randn(batch_size, decoder.latent_size, generator=generator)
        labels = torch.randint(decoder.num_classes, (batch_size,), generator=generator)
        decoder(latents.to(device), labels.to(device))
    decoder.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
