"""The recipe of a joint model, the guide."""

from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from burnish.checkpoint import load_model, save_model
from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.generators.load import load_generator
from burnish.guide.model import Guide
from burnish.networks.build import build
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.storage.formats import write_samples
from burnish.training.config import JointConfig
from burnish.training.losses.joint import JointLoss
from burnish.training.recipes.task import Batches, Task, make_images, network_arguments
from burnish.training.run import Run
from burnish.training.validation import realness_card, validate_joint


def train(task: Task) -> list[Path]:
    """Train the joint classifier-discriminator on real images and on generated ones."""
    config, stage = task.experiment.joint, task.run.joint
    generated = generated_images(config, task.run, task.device)
    shapes = [list(images.images_uint8.shape[1:]) for images in (generated, task.real)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"generated images of shape {shapes[0]} for real images of shape {shapes[1]}"
        )
    if generated.labels.min() < 0 or generated.num_classes > task.real.num_classes:
        raise InputError(
            "the generated images have labels beyond those of the real images, "
            f"0 .. {task.real.num_classes - 1}"
        )
    if config.start_from:
        network, card = load_model(Path(config.start_from))
        arguments = card["network"]
    else:
        torch.manual_seed(config.training.seed)
        arguments = network_arguments(config.network, task.real)
        network = build(arguments)
    # The first generated images are for validation.
    count = min(1000, len(generated) // 10)
    rows = torch.randperm(len(task.held_out), generator=stream(0, "validation"))[:count]
    validate = validate_joint(
        config, task.held_out.samples(rows), generated.samples(slice(0, count))
    )
    rest = Dataset(generated.images_uint8[count:], generated.labels[count:], generated.source)
    real_batches = Batches(task.real, config.training)
    generated_batches = Batches(rest, config.training, offset=1)
    # How the finished guide is best used is no part of its training, and may be said later.
    trained = plain(replace(config, refine={}))
    sha256 = generated.sha256()
    best = task.fit(
        Guide(network, energy=config.energy), JointLoss(config), config.training, stage,
        trained | {"generated_sha256": sha256}, validate=validate,
        batches=lambda step: (real_batches(step), generated_batches(step)),
    )  # fmt: skip
    head = {
        "kind": "joint classifier-discriminator", "name": f"{task.experiment.name}-joint",
        "network": arguments, "energy": config.energy,
        "image_shape": list(task.real.images_uint8.shape[1:]),
        "realness": realness_card(best, task.held_out), "refine": config.refine,
    }  # fmt: skip
    card = task.card(
        head, generated=generated.source, generated_sha256=sha256, validation=validate(best),
        config=trained,
    )  # fmt: skip
    save_model(stage.model, best.network, card)
    return [stage.model]


def generated_images(config: JointConfig, run: Run, device: str = "cpu") -> Dataset:
    """Return the generated images of a joint training; sample them if that was not done yet.

    They have passed through uint8, as the real ones have: a discriminator would otherwise learn
    quantization. The config names a file, or experiments whose runs lie beside ``run``.
    """
    if config.generated:
        return load_dataset(config.generated)
    names = config.generated_by or (run.folder.name,)
    parts = [_generated_by(config, run.beside(name), device) for name in names]
    # In turns, so that the held-out first ones are of all generators.
    turns = torch.cat([torch.linspace(0, 1, len(part)) for part in parts]).argsort(stable=True)
    return Dataset(
        torch.cat([part.images_uint8 for part in parts])[turns],
        torch.cat([part.labels for part in parts])[turns],
        f"generated images of {', '.join(names)}",
    )


def _generated_by(config: JointConfig, run: Run, device: str) -> Dataset:
    """Return the images of a run's generator; a file that a user has put there stays."""
    source = next((path for path in run.generators if path.exists()), None)
    if source is None:
        if run.generated.exists():
            return load_dataset(str(run.generated))
        raise InputError(
            f"no generated images: train the generator first (none in {run.generators[0]}, "
            f"nor {run.generators[1]}) or name a file of images under joint: generated"
        )
    first, count = config.generated_seed, config.num_generated

    def sample() -> None:
        batches = load_generator(source).to(device).batches(range(first, first + count))
        write_samples(run.generated, tqdm(batches, "generated", -(-count // 100)), count)

    sha256 = path_sha256(source)
    made_from = {"generator": sha256, "num_generated": count, "generated_seed": first}
    return make_images(run.generated, made_from, sample, keep_given=True)
