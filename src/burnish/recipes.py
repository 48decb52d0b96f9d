"""What each training is made of: data, network, loss, validation, the file that comes out."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from burnish import __version__
from burnish.checkpoint import load_model, save_model
from burnish.config import ConsistencyConfig, Experiment, TrainingConfig
from burnish.errors import InputError, unknown
from burnish.generators.consistency import ConsistencyModel, build_unet
from burnish.generators.loss import ConsistencyLoss, DenoisingLoss
from burnish.generators.scalings import Preconditioned, Scalings
from burnish.guide.model import Guide
from burnish.guide.training import joint_loss, realness_card, validate_joint
from burnish.networks import build
from burnish.refine.settings import NAMES as REFINE_NAMES
from burnish.seeds import stream
from burnish.storage import write_samples
from burnish.storage.datasets import Dataset, load_dataset, parse_rows
from burnish.training import Batches, train

__all__ = ["load_real", "train_consistency", "train_joint", "train_judge"]


def train_judge(
    experiment: Experiment, name: str, data: Dataset, held_out: Dataset, out: Path, device: str
) -> Path:
    """Train one judge, a classifier of real images; returns the path of its file.

    The checkpoint with the best accuracy on ``held_out`` is kept.
    """
    config = experiment.judges[name]
    torch.manual_seed(config.training.seed)
    arguments = network_arguments(config.network, data)
    model = build(arguments)
    batches = batches_of(data, config.training)

    def loss(model: nn.Module, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        del step
        logits = model(batch.images)
        accuracy = (logits.argmax(1) == batch.labels).float().mean().item()
        return nn.functional.cross_entropy(logits, batch.labels), {"accuracy": accuracy}

    def validate(model: nn.Module) -> dict[str, float]:
        return {"score": accuracy_of(model, held_out, device)}

    settings = plain(config) | {"data": data.source}
    run = out / f"judge-{name}"
    best = train(
        model, loss, batches, config.training, run,
        validate=validate, device=device, settings=settings,
    )  # fmt: skip
    card = {
        "kind": "judge",
        "name": name,
        "network": arguments,
        "image_shape": list(data.images_uint8.shape[1:]),
        "data": data.source,
        "data_sha256": data.sha256(),
        "validation": {"data": held_out.source, "accuracy": accuracy_of(best, held_out, device)},
        "training": plain(config.training),
        "burnish": __version__,
    }
    path = run / "model.safetensors"
    save_model(path, best, card)
    return path


def train_consistency(experiment: Experiment, data: Dataset, out: Path, device: str) -> Path:
    """Train the diffusion teacher if one is needed, then the consistency model.

    Returns:
        The folder of the finished ``ConsistencyModelPipeline``.
    """
    config = experiment.consistency
    scalings = Scalings(sigma_max=config.sigma_max, sigma_data=config.sigma_data)
    teacher = None
    if config.from_teacher or config.method == "distillation":
        teacher = _train_teacher(config, scalings, data, out, device)
    torch.manual_seed(config.training.seed)
    student = Preconditioned(_unet(config, data), scalings, consistent=True)
    if config.from_teacher and teacher is not None:
        student.unet.load_state_dict(teacher.unet.state_dict())
    distilled = teacher if config.method == "distillation" else None
    loss = ConsistencyLoss(
        scalings, config.training.num_steps, distilled,
        config.sigma_mean, config.sigma_std, config.num_stages,
    )  # fmt: skip
    settings = plain(config) | {"data": data.source}
    run = out / "consistency"
    batches = batches_of(data, config.training)
    best = train(student, loss, batches, config.training, run, device=device, settings=settings)
    card = {
        "kind": "consistency model",
        "name": f"{experiment.name}-consistency-{config.method}",
        "data": data.source,
        "data_sha256": data.sha256(),
        "config": plain(config),
        "burnish": __version__,
    }
    model = ConsistencyModel(best.unet, scalings, card=card)  # pyright: ignore[reportArgumentType]
    model.save(run / "pipeline")
    return run / "pipeline"


def _train_teacher(
    config: ConsistencyConfig, scalings: Scalings, data: Dataset, out: Path, device: str
) -> Preconditioned:
    torch.manual_seed(config.teacher.training.seed)
    teacher = Preconditioned(_unet(config, data), scalings, consistent=False)
    loss = DenoisingLoss(scalings, config.teacher.sigma_mean, config.teacher.sigma_std)
    settings = plain(config.teacher) | {"unet": config.unet, "data": data.source}
    best = train(
        teacher, loss, batches_of(data, config.teacher.training), config.teacher.training,
        out / "teacher", device=device, settings=settings,
    )  # fmt: skip
    assert isinstance(best, Preconditioned)
    return best.requires_grad_(False)


def _unet(config: ConsistencyConfig, data: Dataset) -> nn.Module:
    _, channels, size, _ = data.images_uint8.shape
    try:
        return build_unet(size, channels, data.num_classes, **config.unet)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"consistency: unet: {error}") from error


def network_arguments(network: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """Fill in what the data decide: channels, classes and, for our own networks, pixel moments."""
    filled = {"in_channels": data.images_uint8.shape[1], "num_classes": data.num_classes}
    if network.get("name") != "library":
        filled |= {"mean": data.pixel_mean, "std": data.pixel_std}
    return {**network, **{k: v for k, v in filled.items() if k not in network}}


def batches_of(data: Dataset, config: TrainingConfig) -> Batches:
    """Return the batches of a data set under a training's settings."""
    return Batches(data.images_uint8, data.labels, config.batch_size, config.seed, config.flip)


@torch.no_grad()
def accuracy_of(model: nn.Module, data: Dataset, device: str, batch_size: int = 500) -> float:
    """Return the share of images whose largest logit is that of their label."""
    right = 0
    for start in range(0, len(data), batch_size):
        batch = data.samples(slice(start, start + batch_size)).to(device)
        right += int((model(batch.images).argmax(1) == batch.labels).sum())
    return right / len(data)


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
    settings = trained | {"data": data.source, "fakes_sha256": fakes.sha256()}
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
        "data": data.source,
        "data_sha256": data.sha256(),
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
    path = out / "fakes.npz"
    if not path.exists():
        pipeline = out / "consistency" / "pipeline"
        if not pipeline.exists():
            raise InputError(
                f"no generated images: train the consistency model first (none in {pipeline}) "
                "or name a file of images under joint: fakes"
            )
        generator = ConsistencyModel.load(pipeline).to(device)
        seeds = range(config.fake_seed, config.fake_seed + config.num_fakes)
        batches = tqdm(generator.batches(seeds), "fakes", -(-len(seeds) // 100))
        write_samples(path, batches, len(seeds))
    fakes = load_dataset(str(path))
    return dataclasses.replace(fakes, source=f"{experiment.name} consistency model, one step")


def load_real(experiment: Experiment, location: str = "") -> tuple[Dataset, Dataset]:
    """Return the training and the validation images of an experiment.

    Args:
        experiment: Names the data and the rows.
        location: Where the data are if not where the experiment says; cards keep its names.
    """
    data = experiment.data
    whole = load_dataset(location or data.source)
    parts = []
    for rows in (data.train, data.validation):
        part = parse_rows(rows, len(whole))
        source = f"{data.source}[{rows}]"
        parts.append(Dataset(whole.images_uint8[part], whole.labels[part], source))
    return parts[0], parts[1]


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration as strict JSON values: tuples become lists, infinity ``"inf"``."""

    def value(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: value(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [value(inner) for inner in item]
        return str(item) if isinstance(item, float) and not math.isfinite(item) else item

    return value(dataclasses.asdict(config))
