"""The recipe of a VAE, a GAN or a Gaussian."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from burnish import __version__
from burnish.errors import InputError
from burnish.generators.latent import LatentModel
from burnish.networks.build import build
from burnish.networks.decoder import Decoder
from burnish.networks.encoder import Discriminator, Encoder
from burnish.networks.gaussian import Gaussian
from burnish.schema import plain
from burnish.storage.datasets import Dataset
from burnish.training.config import GeneratorConfig
from burnish.training.fit import fit
from burnish.training.loop import Loss
from burnish.training.losses.adversarial import (
    AdversarialLoss,
    Adversaries,
    recalibrate_batch_norm,
)
from burnish.training.losses.elbo import Autoencoder, ElboLoss
from burnish.training.recipes.task import Task, batches_of, data_facts

__all__ = ["train_generator"]


def train_generator(task: Task) -> list[Path]:
    """Train the experiment's VAE or GAN, keeping the averaged decoder; or fit its Gaussian.

    Returns:
        The path of its file.

    Raises:
        InputError: The experiment has no ``generator``, or its networks do not fit the images.
    """
    config, data, stage = task.experiment.generator, task.real, task.run.generator
    if config is None:
        raise InputError(f"{task.experiment.name}: there is no section generator: to train")
    _, channels, height, width = data.images_uint8.shape
    if height != width:
        raise InputError(f"generator: the images must be square, not {height} x {width}")
    arguments: dict[str, Any] = {
        "name": "gaussian" if config.family == "gaussian" else "decoder",
        "in_channels": channels,
        "num_classes": data.num_classes,
        "image_size": height,
        "latent_size": config.latent_size,
    }
    if config.family == "gaussian":
        decoder = _fitted(data, arguments)
    else:
        arguments["widths"] = list(config.widths)
        decoder = _trained(task, config, arguments)
    card = {
        "kind": config.family,
        "name": f"{task.experiment.name}-generator-{config.family}",
        "network": arguments,
        **data_facts(data),
        "config": plain(config),
        "burnish": __version__,
    }
    LatentModel(decoder, card).save(stage.model)
    return [stage.model]


def _fitted(data: Dataset, arguments: dict[str, Any]) -> Gaussian:
    try:
        return cast(Gaussian, build(arguments)).fit(data.images_uint8, data.labels)
    except (InputError, ValueError) as error:
        raise InputError(f"generator: {error}") from error


def _trained(task: Task, config: GeneratorConfig, arguments: dict[str, Any]) -> Decoder:
    torch.manual_seed(config.training.seed)
    model, loss = _networks_and_loss(config, arguments)
    best = fit(
        model, loss, batches_of(task.real, config.training), config.training, task.run.generator,
        settings=plain(config) | data_facts(task.real), device=task.device,
    )  # fmt: skip
    if isinstance(best, Adversaries):
        recalibrate_batch_norm(best.generator, config.training.seed)
        return best.generator
    return cast(Autoencoder, best).decoder


def _networks_and_loss(
    config: GeneratorConfig, arguments: dict[str, Any]
) -> tuple[nn.Module, Loss]:
    """Return what is trained, the decoder and its counterpart, and the loss."""
    try:
        decoder = cast(Decoder, build(arguments))
    except InputError as error:
        raise InputError(f"generator: {error}") from error
    widths = config.encoder_widths or config.widths[::-1]
    channels, size, _ = decoder.image_shape
    if size % 2 ** (len(widths) - 1):
        raise InputError(f"generator: {size} pixels cannot be halved {len(widths) - 1} times")
    if config.family == "gan":
        discriminator = Discriminator(channels, decoder.num_classes, widths)
        return Adversaries(decoder, discriminator), AdversarialLoss(config.latent_size)
    encoder = Encoder(channels, decoder.num_classes, size, config.latent_size, widths)
    loss = ElboLoss(config.latent_size, config.kl_weight, config.noise_std)
    return Autoencoder(encoder, decoder), loss
