"""The recipe of a VAE, a GAN or a Gaussian."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from burnish import __version__
from burnish.errors import InputError
from burnish.generators.latent import LatentModel
from burnish.networks import Decoder, Discriminator, Encoder, Gaussian, build
from burnish.storage.datasets import Dataset
from burnish.training.config import Experiment, GeneratorConfig
from burnish.training.loop import Loss, train
from burnish.training.losses.adversarial import AdversarialLoss, Adversaries, settle
from burnish.training.losses.elbo import Autoencoder, EvidenceLoss
from burnish.training.recipes.parts import batches_of, facts_of, plain

__all__ = ["train_generator"]


def train_generator(experiment: Experiment, data: Dataset, out: Path, device: str) -> Path:
    """Train the experiment's VAE or GAN, keeping the averaged decoder; or fit its Gaussian.

    Returns:
        The path of its file.

    Raises:
        InputError: The experiment has no ``generator``, or its networks do not fit the images.
    """
    config = experiment.generator
    if config is None:
        raise InputError(f"{experiment.name}: there is no section generator: to train")
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
    run = out / "generator"
    if config.family == "gaussian":
        decoder = _fitted(data, arguments)
        run.mkdir(parents=True, exist_ok=True)
    else:
        arguments["widths"] = list(config.widths)
        decoder = _trained(config, data, arguments, run, device)
    card = {
        "kind": config.family,
        "name": f"{experiment.name}-generator-{config.family}",
        "network": arguments,
        **facts_of(data),
        "config": plain(config),
        "burnish": __version__,
    }
    path = run / "model.safetensors"
    LatentModel(decoder, card).save(path)
    return path


def _fitted(data: Dataset, arguments: dict[str, Any]) -> Gaussian:
    try:
        return cast(Gaussian, build(arguments)).fit(data.images_uint8, data.labels)
    except (InputError, ValueError) as error:
        raise InputError(f"generator: {error}") from error


def _trained(
    config: GeneratorConfig, data: Dataset, arguments: dict[str, Any], run: Path, device: str
) -> Decoder:
    torch.manual_seed(config.training.seed)
    model, loss = _parts(config, arguments)
    settings = plain(config) | facts_of(data)
    batches = batches_of(data, config.training)
    best = train(model, loss, batches, config.training, run, device=device, settings=settings)
    if isinstance(best, Adversaries):
        settle(best.generator, config.training.seed)
        return best.generator
    return cast(Autoencoder, best).decoder


def _parts(config: GeneratorConfig, arguments: dict[str, Any]) -> tuple[nn.Module, Loss]:
    """Return what is trained, the decoder and its counterpart, and the loss."""
    try:
        decoder = cast(Decoder, build(arguments))
    except InputError as error:
        raise InputError(f"generator: {error}") from error
    widths = config.reader_widths or config.widths[::-1]
    channels, size, _ = decoder.image_shape
    if size % 2 ** (len(widths) - 1):
        raise InputError(f"generator: {size} pixels cannot be halved {len(widths) - 1} times")
    if config.family == "gan":
        judge = Discriminator(channels, decoder.num_classes, widths)
        return Adversaries(decoder, judge), AdversarialLoss(config.latent_size)
    encoder = Encoder(channels, decoder.num_classes, size, config.latent_size, widths)
    loss = EvidenceLoss(config.latent_size, config.kl_weight, config.noise_std)
    return Autoencoder(encoder, decoder), loss
