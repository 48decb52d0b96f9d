"""The recipe of a joint model, the guide."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from burnish import __version__
from burnish.checkpoint import load_model, save_model
from burnish.errors import InputError, unknown
from burnish.files import path_sha256
from burnish.generators.load import load_generator
from burnish.guide.model import Guide
from burnish.networks import build
from burnish.refine.settings import NAMES as REFINE_NAMES
from burnish.seeds import stream
from burnish.storage import write_samples
from burnish.storage.datasets import Dataset, load_dataset
from burnish.training.config import Experiment, JointConfig
from burnish.training.loop import Batches, train
from burnish.training.recipes.parts import batches_of, facts_of, network_arguments, plain, remade
from burnish.training.validation import joint_loss, realness_card, validate_joint

__all__ = ["train_joint"]


def train_joint(
    experiment: Experiment, data: Dataset, held_out: Dataset, out: Path, device: str
) -> Path:
    """Train the joint classifier-discriminator on real images and on generated ones.

    The generated ones are read from ``fakes``, or sampled once from the experiment's consistency
    model; either way they have passed through uint8, as the real ones have.

    Returns:
        The path of the guide's file.
    """
    config = experiment.joint
    for name in config.refine:
        if name not in REFINE_NAMES:
            raise unknown("setting under joint: refine:", name, REFINE_NAMES)
    run = out / "joint"
    fakes = _fakes(experiment, out, device)
    if fakes.images_uint8.shape[1:] != data.images_uint8.shape[1:]:
        shapes = list(fakes.images_uint8.shape[1:]), list(data.images_uint8.shape[1:])
        raise InputError(f"fakes of shape {shapes[0]} for real images of shape {shapes[1]}")
    if fakes.labels.min() < 0 or fakes.num_classes > data.num_classes:
        raise InputError(
            f"fakes have labels beyond those of the real images, 0 .. {data.num_classes - 1}"
        )
    if config.start_from:
        network, start_card = load_model(Path(config.start_from))
        arguments = start_card["network"]
    else:
        torch.manual_seed(config.training.seed)
        arguments = network_arguments(config.network, data)
        network = build(arguments)
    guide = Guide(network, energy=config.energy)
    held_fakes = min(1000, len(fakes) // 10)
    real_batches = batches_of(data, config.training)
    fake_batches = Batches(
        fakes.images_uint8[held_fakes:], fakes.labels[held_fakes:],
        config.training.batch_size, config.training.seed + 1, config.training.flip,
    )  # fmt: skip

    def batches(step: int) -> tuple[Any, Any]:
        return real_batches(step), fake_batches(step)

    shuffled = torch.randperm(len(held_out), generator=stream(0, "validation"))[:held_fakes]
    validate = validate_joint(
        config, held_out.samples(shuffled), fakes.samples(slice(0, held_fakes))
    )
    # How the finished guide is best used is no part of its training, and may be said later.
    trained = plain(dataclasses.replace(config, refine={}))
    settings = trained | facts_of(data) | {"fakes_sha256": fakes.sha256()}
    best = train(
        guide, joint_loss(config), batches, config.training, run,
        validate=validate, device=device, settings=settings,
    )  # fmt: skip
    assert isinstance(best, Guide)
    card = {
        "kind": "joint classifier-discriminator",
        "name": f"{experiment.name}-joint",
        "network": arguments,
        "energy": config.energy,
        "image_shape": list(data.images_uint8.shape[1:]),
        "realness": realness_card(best, held_out.samples(), held_out.source),
        "refine": config.refine,
        **facts_of(data),
        "fakes": fakes.source,
        "fakes_sha256": fakes.sha256(),
        "validation": validate(best),
        "config": trained,
        "burnish": __version__,
    }
    path = run / "model.safetensors"
    save_model(path, best.network, card)
    return path


def _fakes(experiment: Experiment, out: Path, device: str) -> Dataset:
    config = experiment.joint
    if config.fakes:
        return load_dataset(config.fakes)
    names = config.fakes_of or (out.name,)
    parts = [_fakes_of(config, out.parent / name, device) for name in names]
    # In turns, so that the held-out first ones are of all generators.
    turns = torch.cat([torch.linspace(0, 1, len(part)) for part in parts]).argsort(stable=True)
    return Dataset(
        torch.cat([part.images_uint8 for part in parts])[turns],
        torch.cat([part.labels for part in parts])[turns],
        f"generated images of {', '.join(names)}",
    )


def _fakes_of(config: JointConfig, run: Path, device: str) -> Dataset:
    """Return the fakes of a run's generator; a ``fakes.npz`` put there by hand stays."""
    path = run / "fakes.npz"
    places = [run / "consistency" / "pipeline", run / "generator" / "model.safetensors"]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        if path.exists():
            return load_dataset(str(path))
        raise InputError(
            f"no generated images: train the generator first (none in {places[0]}, "
            f"nor {places[1]}) or name a file of images under joint: fakes"
        )
    drawn = {"num_fakes": config.num_fakes, "fake_seed": config.fake_seed}
    with remade(path, {"generator": path_sha256(place), **drawn}, given=True) as missing:
        if missing:
            generator = load_generator(str(place)).to(device)
            seeds = range(config.fake_seed, config.fake_seed + config.num_fakes)
            batches = tqdm(generator.batches(seeds), "fakes", -(-len(seeds) // 100))
            write_samples(path, batches, len(seeds))
    return load_dataset(str(path))
