"""The loss of a VAE: the negative evidence lower bound (ELBO).

Per pixel value, in nats, up to a constant:

    mean (x - decoded)^2 / (2 s^2) + ln s + kl_weight KL(q(z | x, y) || N(0, I)) / (C H W)

Kingma & Welling 2014, "Auto-Encoding Variational Bayes", equation 3,
https://arxiv.org/abs/1312.6114. The width s of the likelihood is given or, as in the optimal
sigma-VAE, the one that makes the loss least for the batch, s^2 = mean (x - decoded)^2: Rybkin et
al. 2021, "Simple and Effective VAE Training with Calibrated Decoders",
https://arxiv.org/abs/2006.13202.
"""

import math

import torch
from torch import Tensor, nn

from burnish.networks.decoder import Decoder
from burnish.networks.encoder import Encoder
from burnish.samples import Samples
from burnish.training.config import GeneratorConfig

__all__ = ["Autoencoder", "ElboLoss"]


class Autoencoder(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(
        self, images: Tensor, labels: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return decoded images and the posterior's mean and log variance.

        Args:
            images: ``[B, C, H, W]`` in [0, 1].
            labels: ``[B]`` int64.
            noise: ``[B, L]`` standard normal; z = mean + exp(log_variance / 2) noise.
        """
        mean, log_variance = self.encoder(images, labels)
        latents = mean + (log_variance / 2).exp() * noise
        return self.decoder(latents, labels), mean, log_variance


class ElboLoss:
    """The negative evidence lower bound; ``noise_std`` of the config is s."""

    def __init__(self, config: GeneratorConfig) -> None:
        self.config = config

    def __call__(
        self, model: nn.Module, batch: Samples, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and the numbers to log."""
        del step
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
