"""The losses of generators of one step: of a GAN and of a VAE."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from burnish.networks.latent import Decoder, Discriminator, Encoder
from burnish.samples import Samples
from burnish.seeds import stream
from burnish.training.config import GeneratorConfig

Value = tuple[Tensor, dict[str, float]]  # of a loss, with numbers to log


class Adversaries(nn.Module):
    """A generator and the discriminator that it is trained against.

    Args:
        generator: Makes images.
        discriminator: Tells them from real ones.
        penalize: Whether the gradient penalty is wanted.
    """

    def __init__(
        self, generator: Decoder, discriminator: Discriminator, penalize: bool = False
    ) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.penalize = penalize

    def forward(self, images: Tensor, labels: Tensor, latents: Tensor) -> tuple[Tensor, ...]:
        """Return realness ``[B]`` three times: of real images and of generated ones.

        These teach the discriminator; that of the generated ones once more, the generator. A
        fourth value is the gradient penalty, if it is wanted.
        """
        generated = self.generator(latents, labels)
        both = torch.cat([images, generated.detach()])
        of_real, of_generated = self.discriminator(both, labels.repeat(2)).chunk(2)
        constant = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        raised = functional_call(self.discriminator, constant, (generated, labels))
        if not self.penalize:
            return of_real, of_generated, raised
        share = torch.rand(len(images), 1, 1, 1).to(images.device)
        mixed = torch.lerp(generated.detach(), images, share)
        return of_real, of_generated, raised, gradient_penalty(self.discriminator, mixed, labels)


def gradient_penalty(discriminator: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    r"""Return how far the discriminator is from a slope of 1.

    .. math:: E_x (\lVert \nabla_x D(x, y) \rVert_2 - 1)^2

    The gradient is by pixels in [-1, 1], as the factor 10 was published for: half of that by
    pixels in [0, 1]. Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", equation 3,
    https://arxiv.org/abs/1704.00028.

    Args:
        discriminator: ``(images, labels) -> realness [B]``.
        images: ``[B, C, H, W]`` in [0, 1], between real and generated ones.
        labels: ``[B]`` int64.
    """
    with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        images = images.detach().float().requires_grad_()
        realness = discriminator(images, labels).sum()
        (gradient,) = torch.autograd.grad(realness, images, create_graph=True)
        return ((gradient / 2).flatten(1).norm(dim=1) - 1).square().mean()


class AdversarialLoss:
    """The losses of a GAN, two networks in one module: both losses in one sum.

    With D the realness that the discriminator gives, of real images (r) and of generated ones (g):

    * hinge: mean max(0, 1 - r) + mean max(0, 1 + g), G constant; and -mean g, D constant
    * wasserstein: mean g - mean r; and -mean g
    * logistic: mean ln(1 + e^-r) + mean ln(1 + e^g); and mean ln(1 + e^-g)

    The gradient penalty is added to the first, times its factor. Only every
    ``discriminator_steps``-th step has the second.

    Lim & Ye 2017, "Geometric GAN", https://arxiv.org/abs/1705.02894; Miyato et al. 2018, "Spectral
    Normalization for Generative Adversarial Networks", equations 16 and 17,
    https://arxiv.org/abs/1802.05957.

    As each is a constant to the other's weights, one backward pass gives every weight its own
    gradient, and both networks make their steps at once. Do not clip gradients by their norm here:
    that of one network would decide how far the other goes.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        self.config, self.latent_size = config, config.latent_size

    def __call__(self, model: nn.Module, batch: Samples, step: int) -> Value:
        """Return the loss of a batch and the numbers to log."""
        latents = torch.randn(len(batch), self.latent_size).to(batch.images.device)
        config = self.config
        of_real, of_generated, raised, *penalty = model(batch.images, batch.labels, latents)
        discriminator, generator = _adversarial(
            config.adversarial_loss, of_real, of_generated, raised
        )
        numbers = {
            "discriminator": discriminator.item(),
            "realness_real": of_real.mean().item(),
            "realness_generated": of_generated.mean().item(),
        }
        if penalty:
            numbers["penalty"] = penalty[0].item()
            discriminator = discriminator + config.gradient_penalty * penalty[0]
        if (step + 1) % config.discriminator_steps:
            return discriminator, numbers
        return discriminator + generator, numbers


def _adversarial(
    kind: str, of_real: Tensor, of_generated: Tensor, raised: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the losses of the discriminator and of the generator."""
    if kind == "logistic":
        discriminator = F.softplus(-of_real).mean() + F.softplus(of_generated).mean()
        return discriminator, F.softplus(-raised).mean()
    if kind == "wasserstein":
        return of_generated.mean() - of_real.mean(), -raised.mean()
    discriminator = torch.relu(1 - of_real).mean() + torch.relu(1 + of_generated).mean()
    return discriminator, -raised.mean()


@torch.no_grad()
def recalibrate_batch_norm(decoder: Decoder, seed: int) -> None:
    """Measure the statistics of the batch norms anew, in place, on 2000 random latents and labels.

    Averaged weights have other statistics than those that training averaged, which belong to other
    weights. These are "standing statistics": Brock et al. 2019, "Large Scale GAN Training for High
    Fidelity Natural Image Synthesis", appendix on sampling, https://arxiv.org/abs/1809.11096.
    """
    norms = [module for module in decoder.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    # The name of a stream is part of its numbers; another one would change every GAN.
    generator, device = stream(seed, "settle"), next(decoder.parameters()).device
    decoder.train()
    for _ in range(20):
        latents = torch.randn(100, decoder.latent_size, generator=generator)
        labels = torch.randint(decoder.num_classes or 1, (100,), generator=generator)
        decoder(latents.to(device), labels.to(device))
    decoder.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class Autoencoder(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Tensor, labels: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """Return decoded images ``[B, C, H, W]`` and the posterior's mean and log variance.

        With ``[B, L]`` standard normal noise, z = mean + exp(log_variance / 2) noise.
        """
        mean, log_variance = self.encoder(images, labels)
        latents = mean + (log_variance / 2).exp() * noise
        return self.decoder(latents, labels), mean, log_variance


class ElboLoss:
    """The loss of a VAE: the negative evidence lower bound (ELBO).

    Per pixel value, in nats, up to a constant:

        mean (x - decoded)^2 / (2 s^2) + ln s + kl_weight KL(q(z | x, y) || N(0, I)) / (C H W)

    Kingma & Welling 2014, "Auto-Encoding Variational Bayes", equation 3,
    https://arxiv.org/abs/1312.6114. The width s of the likelihood is ``noise_std`` or, as in the
    optimal sigma-VAE, the one that makes the loss least for the batch, s^2 = mean (x - decoded)^2:
    Rybkin et al. 2021, "Simple and Effective VAE Training with Calibrated Decoders",
    https://arxiv.org/abs/2006.13202.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Samples, step: int) -> Value:
        """Return the loss of a batch and the numbers to log."""
        images, std = batch.images, self.config.noise_std
        noise = torch.randn(len(batch), self.config.latent_size).to(images.device)
        decoded, mean, log_variance = model(images, batch.labels, noise)
        error = (decoded - images).square().mean()
        if std is None:
            likelihood = error.clamp(min=1e-6).log() / 2
        else:
            likelihood = error / (2 * std**2) + math.log(std)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        loss = likelihood + self.config.kl_weight * divergence / images[0].numel()
        return loss, {"error": error.item(), "divergence": divergence.item()}
