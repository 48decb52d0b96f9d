"""The recipe of a joint model, the guide."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish import __version__
from burnish.ascent.spectrum import Filter, measure_spectrum, transport
from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.networks.build import build, sketch
from burnish.progress import bar
from burnish.samples import to_uint8
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.storage.disk_dataset import DiskDataset, open_dataset
from burnish.storage.formats import write_samples
from burnish.training import ranks
from burnish.training.batches import Ahead, Batches, Pairs
from burnish.training.config import AugmentConfig, JointConfig
from burnish.training.fit import fit
from burnish.training.lock import alone_in
from burnish.training.losses.joint import JointLoss
from burnish.training.recipes.task import Task, make_images, network_arguments
from burnish.training.run import Run, Stage
from burnish.training.validation import realness_card, validate_joint


@dataclass(frozen=True)
class JointData:
    """Real and generated images to train on, and those that are held out for validation."""

    real: Dataset | DiskDataset
    real_held_out: Dataset | DiskDataset
    generated: Dataset | DiskDataset
    generated_held_out: Dataset | DiskDataset

    def __post_init__(self) -> None:
        shapes = [list(side.image_shape) for side in (self.generated, self.real)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"generated images of shape {shapes[0]} for real images of shape {shapes[1]}"
            )
        classes = self.real.num_classes
        for side in (self.generated, self.generated_held_out):
            if side.labels.min() < 0 or side.num_classes > classes:
                raise InputError(
                    "the generated images have labels beyond those of the real images, "
                    f"0 .. {classes - 1}"
                )


def train(task: Task) -> list[Path]:
    """Train the joint classifier-discriminator on real images and on generated ones."""
    config, stage = task.experiment.joint, task.run.joint
    described = task.experiment.data
    if described.on_disk:
        generated = _on_disk(config, task)
        count = max(1, min(1000, len(generated) // 10))
        rows = torch.arange(len(generated))
        # Some of each generator, where a pattern names files of several.
        held_out = rows % (len(generated) // count) == 0
        seen, unseen = generated[rows[~held_out]], generated[rows[held_out][:count]]
    else:
        generated = generated_images(config, task.run, task.device)
        # The first generated images are for validation.
        count = max(1, min(1000, len(generated) // 10))
        seen, unseen = generated[count:], generated[:count]
    data = JointData(task.real_side, task.held_out_side, seen, unseen)
    facts = {**task.trained_on, "generated": generated.source}
    facts["generated_sha256"] = generated.sha256()
    name = f"{task.experiment.name}-joint"
    changed = config.augment != AugmentConfig()
    num_workers = described.num_workers if described.on_disk or changed else 0
    return [
        train_guide(
            config, data, stage, name=name, facts=facts, device=task.device,
            num_workers=num_workers,
        )
    ]  # fmt: skip


def _on_disk(config: JointConfig, task: Task) -> Dataset | DiskDataset:
    """Return the generated images on disk, brought to one size as the real ones are."""
    if not config.generated:
        raise InputError("data: on_disk needs a file or pattern of images under joint: generated")
    size = task.experiment.data.size
    native = open_dataset(config.generated).image_shape
    if size > min(native[1:]):
        raise InputError(
            f"the generated images are {native[1]}x{native[2]}; data: size {size} would enlarge "
            "them beside real ones that are reduced, and the guide would learn that"
        )
    return task.open(config.generated)


def train_guide(
    config: JointConfig, data: JointData, stage: Stage, *, name: str, facts: Mapping[str, Any],
    device: str = "cpu", num_workers: int = 0,
) -> Path:  # fmt: skip
    """Train a guide; resume it if it was killed; return its file.

    Args:
        config: How.
        data: On what.
        stage: The folder of the training; the guide becomes its ``model``.
        name: What the card calls it.
        facts: What the images are, for the card; the training follows from their hashes.
        device: Where to train.
        num_workers: Processes that prepare batches; 0 for none but this one.

    Of several processes that train together all return the path; the first writes it.
    """
    network, arguments = _network(config, data.real)
    sides = {"real": data.real, "generated": data.generated}
    spectra = {side: measure_spectrum(images.measured()) for side, images in sides.items()}
    shown = data
    if config.match_spectrum:
        match = transport(spectra["generated"], spectra["real"])
        if not isinstance(data.generated, Dataset):
            raise InputError("match_spectrum filters images in memory; set data: on_disk to false")
        seen, held_out = (_filtered(d, match) for d in (data.generated, data.generated_held_out))
        shown = replace(data, generated=seen, generated_held_out=held_out)
    count = min(len(data.real_held_out), len(data.generated_held_out))
    rows = torch.randperm(len(data.real_held_out), generator=stream(0, "validation"))[:count]
    validate = validate_joint(
        config, shown.real_held_out.samples(rows), shown.generated_held_out.samples()
    )
    batches = Pairs(
        Batches(shown.real, config.training, changes=config.augment),
        Batches(shown.generated, config.training, offset=1, changes=config.augment),
    )
    # How the finished guide is best used is no part of its training, and may be said later.
    trained = _settings(config)
    hashes = {key: value for key, value in facts.items() if key != "generated"}
    best: Any = fit(
        Guide(network, energy=config.energy, spectra=spectra), JointLoss(config),
        Ahead(batches, config.training.num_steps, num_workers), config.training, stage,
        settings=trained | hashes, validate=validate, device=device,
        accumulate=config.accumulate, shared_norms=config.batch_norm == "live",
    )  # fmt: skip
    if ranks.index():
        return stage.model
    card = {
        "kind": "joint classifier-discriminator", "name": name, "network": arguments,
        "energy": config.energy, "image_shape": list(data.real.image_shape),
        "realness": realness_card(best, data.real_held_out),
        "realness_generated": realness_card(best, data.generated_held_out),
        "refine": config.refine, **facts, "validation": validate(best), "config": trained,
        "burnish": __version__,
    }  # fmt: skip
    save_model(stage.model, best.network, card, beside=spectra)
    return stage.model


def _settings(config: JointConfig) -> dict[str, Any]:
    """Return what a training follows from; settings that came later count where they are used."""
    later = {"accumulate", "augment", "fresh_head"}
    default = plain(JointConfig())
    settings = plain(replace(config, refine={}))
    return {k: v for k, v in settings.items() if k not in later or v != default[k]}


def _network(config: JointConfig, real: Dataset | DiskDataset) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network that training begins with, and the arguments that build it."""
    torch.manual_seed(config.training.seed)
    if not config.start_from:
        arguments = network_arguments(config.network, real)
        return build(arguments), arguments
    guide = load_guide(config.start_from)
    if "network" not in guide.card:
        raise InputError(
            f"{config.start_from} cannot be started from; name it under network: instead, as "
            f"{{name: pretrained, source: {config.start_from}, pretrained: true}}"
        )
    network, arguments = guide.network, dict(guide.card["network"])
    channels, known = real.image_shape[0], arguments.get("in_channels")
    if known not in (None, channels):
        raise InputError(f"{config.start_from} takes {known} channels, the images have {channels}")
    same = arguments.get("num_classes") == real.num_classes
    if same and not config.fresh_head:
        return network, arguments
    # The last layer is what has other shapes for other classes.
    arguments["num_classes"] = real.num_classes
    other = sketch({**arguments, "num_classes": real.num_classes + 1}).state_dict()
    fresh, kept = build(arguments), network.state_dict()
    begun = fresh.state_dict()
    body = [name for name, value in begun.items() if value.shape == other[name].shape]
    fresh.load_state_dict({**begun, **{name: kept[name] for name in body}})
    return fresh, arguments


def _filtered(data: Any, match: Filter) -> Dataset:
    parts = [to_uint8(match(part).clamp(0, 1)) for part in data.measured()]
    return replace(data, images_uint8=torch.cat(parts))


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
        write_samples(run.generated, bar(batches, "generated", -(-count // 100)), count)

    sha256 = path_sha256(source)
    made_from = {"generator": sha256, "num_generated": count, "generated_seed": first}
    with alone_in(run.folder, wait=True):  # one of several processes samples
        return make_images(run.generated, made_from, sample, keep_given=True)
