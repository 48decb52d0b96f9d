"""The recipe of a consistency model and its teacher."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish import __version__
from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.scalings import Preconditioned, Scalings
from burnish.generators.unet import build_unet
from burnish.storage.datasets import Dataset
from burnish.training.config import ConsistencyConfig, Experiment
from burnish.training.loop import train
from burnish.training.losses.consistency import ConsistencyLoss, DenoisingLoss
from burnish.training.recipes.parts import batches_of, facts_of, plain

__all__ = ["train_consistency"]


def train_consistency(experiment: Experiment, data: Dataset, out: Path, device: str) -> Path:
    """Train the diffusion teacher if one is needed, then the consistency model.

    The teacher is a generator too: its run keeps it in ``pipeline``, a folder that
    ``DiffusionModel`` loads.

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
    settings = plain(config) | facts_of(data)
    run = out / "consistency"
    batches = batches_of(data, config.training)
    best = train(student, loss, batches, config.training, run, device=device, settings=settings)
    card = {
        "kind": "consistency model",
        "name": f"{experiment.name}-consistency-{config.method}",
        **facts_of(data),
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
    settings = plain(config.teacher) | {"unet": config.unet, **facts_of(data)}
    card = {
        "name": f"{config.teacher.of or out.name}-teacher",
        **facts_of(data),
        "config": settings,
        "burnish": __version__,
    }
    # Whose it is does not change what it is: a finished teacher of the same settings is taken.
    run = out.parent / (settings.pop("of") or out.name) / "teacher"
    best = train(
        teacher, loss, batches_of(data, config.teacher.training), config.teacher.training,
        run, device=device, settings=settings,
    )  # fmt: skip
    assert isinstance(best, Preconditioned)
    unet: Any = best.unet
    DiffusionModel(unet, scalings, card=card).save(run / "pipeline")
    return best.requires_grad_(False)


def _unet(config: ConsistencyConfig, data: Dataset) -> nn.Module:
    _, channels, size, _ = data.images_uint8.shape
    try:
        return build_unet(size, channels, data.num_classes, **config.unet)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"consistency: unet: {error}") from error
