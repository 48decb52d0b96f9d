"""The recipe of a consistency model and its teacher."""

from pathlib import Path

import torch
from torch import nn

from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.unet import Preconditioned, Scalings, build_unet
from burnish.schema import plain
from burnish.training.losses.consistency import ConsistencyLoss, DenoisingLoss
from burnish.training.recipes.task import Task


def train(task: Task) -> list[Path]:
    """Train the diffusion teacher if one is needed, then the consistency model.

    The teacher is a generator too: its stage keeps it as a folder that ``DiffusionModel`` loads.
    """
    config, stage = task.experiment.consistency, task.run.consistency
    scalings = Scalings(sigma_max=config.sigma_max, sigma_data=config.sigma_data)
    distilled, teacher = config.method == "distillation", None
    if config.from_teacher or distilled:
        teacher = _train_teacher(task, scalings)
    torch.manual_seed(config.training.seed)
    student = Preconditioned(_unet(task), scalings, consistent=True)
    if config.from_teacher and teacher is not None:
        student.unet.load_state_dict(teacher.unet.state_dict())
    loss = ConsistencyLoss(config, scalings, teacher if distilled else None)
    best = task.fit(student, loss, config.training, stage, plain(config))
    name = f"{task.experiment.name}-consistency-{config.method}"
    card = task.card({"kind": "consistency model", "name": name}, config=plain(config))
    ConsistencyModel(best.unet, scalings, card=card).save(stage.pipeline)
    return [stage.pipeline]


def _train_teacher(task: Task, scalings: Scalings) -> Preconditioned:
    """Train the teacher, or take over a finished one of the same settings."""
    config = task.experiment.consistency.teacher
    torch.manual_seed(config.training.seed)
    teacher = Preconditioned(_unet(task), scalings, consistent=False)
    run = task.run.beside(config.of) if config.of else task.run
    settings = plain(config) | {"unet": task.experiment.consistency.unet}
    del settings["of"]  # whose it is does not change what it is
    loss = DenoisingLoss(config, scalings)
    best = task.fit(teacher, loss, config.training, run.teacher, settings)
    card = task.card({"name": f"{run.folder.name}-teacher"}, config=settings)
    DiffusionModel(best.unet, scalings, card=card).save(run.teacher.pipeline)
    return best.requires_grad_(False)


def _unet(task: Task) -> nn.Module:
    _, channels, size, _ = task.real.images_uint8.shape
    unet = task.experiment.consistency.unet
    try:
        return build_unet(size, channels, task.real.num_classes, **unet)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"consistency: unet: {error}") from error
