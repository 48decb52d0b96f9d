"""The recipe of a VAE, a GAN or a Gaussian."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish.errors import InputError
from burnish.generators.latent import LatentModel
from burnish.networks.build import build
from burnish.networks.latent import Decoder, Discriminator, Encoder
from burnish.schema import plain
from burnish.training.config import GeneratorConfig
from burnish.training.fit import Loss
from burnish.training.losses import generator as losses
from burnish.training.recipes.task import Task


def train(task: Task) -> list[Path]:
    """Train the experiment's VAE or GAN, keeping the averaged decoder; or fit its Gaussian."""
    config, data, stage = task.experiment.generator, task.real, task.run.generator
    if config is None:
        raise InputError(f"{task.experiment.name}: there is no section generator: to train")
    _, channels, height, width = data.images_uint8.shape
    if height != width:
        raise InputError(f"generator: the images must be square, not {height} x {width}")
    gaussian = config.family == "gaussian"
    arguments: dict[str, Any] = {
        "name": "gaussian" if gaussian else "decoder", "in_channels": channels,
        "num_classes": data.num_classes if config.conditional else None,
        "image_size": height, "latent_size": config.latent_size,
    }  # fmt: skip
    if not gaussian:
        arguments["widths"] = list(config.widths)
    torch.manual_seed(config.training.seed)
    try:
        decoder: Any = build(arguments)
        if gaussian:
            decoder.fit(data.images_uint8, data.labels)
    except (InputError, ValueError) as error:
        raise InputError(f"generator: {error}") from error
    if not gaussian:
        model, loss = _networks_and_loss(config, decoder)
        best = task.fit(model, loss, config.training, stage, plain(config))
        decoder = best.generator if config.family == "gan" else best.decoder
    if config.family == "gan":
        losses.recalibrate_batch_norm(decoder, config.training.seed)
    name = f"{task.experiment.name}-generator-{config.family}"
    head = {"kind": config.family, "name": name, "network": arguments}
    LatentModel(decoder, task.card(head, config=plain(config))).save(stage.model)
    return [stage.model]


def _networks_and_loss(config: GeneratorConfig, decoder: Decoder) -> tuple[nn.Module, Loss]:
    """Return what is trained, the decoder and its counterpart, and the loss."""
    widths = config.encoder_widths or config.widths[::-1]
    channels, size, _ = decoder.image_shape
    if size % 2 ** (len(widths) - 1):
        raise InputError(f"generator: {size} pixels cannot be halved {len(widths) - 1} times")
    if config.family == "gan":
        discriminator = Discriminator(
            channels, decoder.num_classes, widths, config.discriminator_labels,
            config.discriminator_norm,
        )  # fmt: skip
        pair = losses.Adversaries(decoder, discriminator, config.gradient_penalty > 0)
        return pair, losses.AdversarialLoss(config)
    encoder = Encoder(channels, decoder.num_classes, size, config.latent_size, widths)
    return losses.Autoencoder(encoder, decoder), losses.ElboLoss(config)
