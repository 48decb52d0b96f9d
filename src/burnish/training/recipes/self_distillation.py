"""The recipe of self-distillation: a consistency model learns to make its refined images."""

from pathlib import Path
from typing import Any

import torch

from burnish import __version__
from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.unet import Preconditioned
from burnish.guide.load import load_guide
from burnish.progress import bar
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.schema import plain
from burnish.storage.formats import open_samples, write_samples
from burnish.training.fit import fit
from burnish.training.losses.consistency import SelfDistillationLoss
from burnish.training.recipes.task import Batches, Task, make_images


def train(task: Task) -> list[Path]:
    """Fine-tune the experiment's consistency model on its own images, refined by its guide.

    Sampling then takes one network call and no guide. Real images are not seen again.
    """
    config, stage = task.experiment.self_distillation, task.run.self_distillation
    pipeline, guide_path = task.run.consistency.pipeline, task.run.joint.model
    for path in (pipeline, guide_path):
        if not path.exists():
            raise InputError(
                f"train the consistency model and the guide first; there is no {path}"
            )
    generator = ConsistencyModel.load(pipeline).to(task.device)
    guide = load_guide(guide_path).to(task.device)
    settings, guide_sha256 = settings_for(guide), path_sha256(guide_path)
    seeds = range(config.first_seed, config.first_seed + config.num_images)

    def sample_and_refine() -> None:
        batches = bar(generator.batches(seeds), "sample", -(-len(seeds) // 100))
        write_samples(stage.generated, batches, len(seeds))
        # Of the training's settings, so that the images do not depend on the machine.
        precision = "float32" if config.training.precision == "float32" else "bfloat16"
        refiner = Refiner(guide, settings, precision=precision)
        file = open_samples(stage.generated)
        refined = bar(refiner(file, file.labels), "refine", -(-len(file) // file.batch_size))
        write_samples(stage.refined, (part.samples for part in refined), len(file))

    made_from = {
        "generator": path_sha256(pipeline), "guide": guide_sha256, "refine": plain(settings),
        "seeds": [seeds[0], seeds[-1]],
    }  # fmt: skip
    data = make_images(stage.refined, made_from, sample_and_refine)
    torch.manual_seed(config.training.seed)
    best: Any = fit(
        Preconditioned(generator.unet, generator.scalings, consistent=True),
        SelfDistillationLoss(generator.scalings, config.first_seed),
        Batches(data, config.training), config.training, stage,
        settings=plain(config) | {"images_sha256": data.sha256()}, device=task.device,
    )  # fmt: skip
    card = {
        **generator.card,
        "name": f"{task.experiment.name}-self-distillation",
        "self_distillation": plain(config),
        "guide": guide.card.get("name"), "guide_sha256": guide_sha256, "refine": plain(settings),
        "burnish": __version__,
    }  # fmt: skip
    ConsistencyModel(best.unet, generator.scalings, card=card).save(stage.pipeline)
    return [stage.pipeline]
