"""The recipe of a consistency model and its teacher."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from burnish import __version__
from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.scalings import Preconditioned, Scalings
from burnish.generators.unet import build_unet
from burnish.schema import plain
from burnish.storage.datasets import Dataset
from burnish.training.config import ConsistencyConfig
from burnish.training.fit import fit
from burnish.training.losses.consistency import ConsistencyLoss
from burnish.training.losses.denoising import DenoisingLoss
from burnish.training.recipes.task import Task, batches_of, data_facts

__all__ = ["train_consistency"]


def train_consistency(task: Task) -> list[Path]:
    """Train the diffusion teacher if one is needed, then the consistency model.

    The teacher is a generator too: its stage keeps it as a folder that ``DiffusionModel`` loads.

    Returns:
        The folder of the finished ``ConsistencyModelPipeline``.
    """
    config, data, stage = task.experiment.consistency, task.real, task.run.consistency
    scalings = Scalings(sigma_max=config.sigma_max, sigma_data=config.sigma_data)
    teacher = None
    if config.from_teacher or config.method == "distillation":
        teacher = _train_teacher(task, scalings)
    torch.manual_seed(config.training.seed)
    student = Preconditioned(_unet(config, data), scalings, consistent=True)
    if config.from_teacher and teacher is not None:
        student.unet.load_state_dict(teacher.unet.state_dict())
    loss = ConsistencyLoss(
        scalings, config.training.num_steps,
        teacher if config.method == "distillation" else None,
        config.sigma_mean, config.sigma_std, config.num_stages,
    )  # fmt: skip
    best = fit(
        student, loss, batches_of(data, config.training), config.training, stage,
        settings=plain(config) | data_facts(data), device=task.device,
    )  # fmt: skip
    card = {
        "kind": "consistency model",
        "name": f"{task.experiment.name}-consistency-{config.method}",
        **data_facts(data),
        "config": plain(config),
        "burnish": __version__,
    }
    unet = cast(Any, best.unet)
    ConsistencyModel(unet, scalings, card=card).save(stage.pipeline)
    return [stage.pipeline]


def _train_teacher(task: Task, scalings: Scalings) -> Preconditioned:
    """Train the teacher, or take over a finished one of the same settings."""
    config, data = task.experiment.consistency, task.real
    whole, training = config.teacher, config.teacher.training
    torch.manual_seed(training.seed)
    teacher = Preconditioned(_unet(config, data), scalings, consistent=False)
    loss = DenoisingLoss(scalings, whole.sigma_mean, whole.sigma_std)
    run = task.run.beside(whole.of) if whole.of else task.run
    settings = plain(whole) | {"unet": config.unet, **data_facts(data)}
    del settings["of"]  # whose it is does not change what it is
    best = fit(
        teacher, loss, batches_of(data, training), training, run.teacher,
        settings=settings, device=task.device,
    )  # fmt: skip
    card = {
        "name": f"{run.folder.name}-teacher",
        **data_facts(data),
        "config": settings,
        "burnish": __version__,
    }
    DiffusionModel(cast(Any, best.unet), scalings, card=card).save(run.teacher.pipeline)
    return cast(Preconditioned, best.requires_grad_(False))


def _unet(config: ConsistencyConfig, data: Dataset) -> nn.Module:
    _, channels, size, _ = data.images_uint8.shape
    try:
        return build_unet(size, channels, data.num_classes, **config.unet)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"consistency: unet: {error}") from error
