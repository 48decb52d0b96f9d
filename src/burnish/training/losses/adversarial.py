"""Training a GAN: two networks in one module, their losses in one sum.

Hinge losses (Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17), with D the realness:

* discriminator: mean max(0, 1 - D(x, y)) + mean max(0, 1 + D(G(z, y), y)), G held still;
* generator: -mean D(G(z, y), y), D held still.

As each is a constant to the other's weights, one backward pass gives every weight its own
gradient, and the two take their steps at once. Clip no gradient by its norm here: that of one
network would decide how far the other goes.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from burnish.networks import Decoder, Discriminator
from burnish.samples import Samples
from burnish.seeds import stream

__all__ = ["AdversarialLoss", "Adversaries", "settle"]


class Adversaries(nn.Module):
    """A generator and the discriminator that it is trained against."""

    def __init__(self, generator: Decoder, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(
        self, images: Tensor, labels: Tensor, latents: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return three times realness ``[B]``.

        Of real images and of fakes, which teach the discriminator; and of the same fakes once
        more, which teaches the generator.
        """
        fakes = self.generator(latents, labels)
        both = torch.cat([images, fakes.detach()])
        real, fake = self.discriminator(both, labels.repeat(2)).chunk(2)
        still = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        judged = functional_call(self.discriminator, still, (fakes, labels))
        return real, fake, judged


class AdversarialLoss:
    """The sum of both hinge losses; the discriminator's is 2 when it knows nothing.

    Args:
        latent_size: Numbers per latent.
    """

    def __init__(self, latent_size: int) -> None:
        self.latent_size = latent_size

    def __call__(
        self, model: nn.Module, batch: Samples, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and the numbers worth a log line."""
        del step
        latents = torch.randn(len(batch), self.latent_size)
        real, fake, judged = model(batch.images, batch.labels, latents.to(batch.images.device))
        discriminator = torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()
        numbers = {
            "discriminator": discriminator.item(),
            "realness_real": real.mean().item(),
            "realness_fake": fake.mean().item(),
        }
        return discriminator - judged.mean(), numbers


@torch.no_grad()
def settle(decoder: Decoder, seed: int, num_batches: int = 20, batch_size: int = 100) -> None:
    """Measure the batch norms' statistics anew, on latents of the prior and labels at random.

    Averaged weights have other statistics than those, of other weights, that training averaged;
    these are their own ("standing statistics", Brock et al. 2019, appendix on sampling).
    """
    norms = [module for module in decoder.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    generator, device = stream(seed, "settle"), next(decoder.parameters()).device
    decoder.train()
    for _ in range(num_batches):
        latents = torch.randn(batch_size, decoder.latent_size, generator=generator)
        labels = torch.randint(decoder.num_classes, (batch_size,), generator=generator)
        decoder(latents.to(device), labels.to(device))
    decoder.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
