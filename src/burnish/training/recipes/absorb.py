"""The recipe of a consistency model that has learned to make its refined images at once."""

from pathlib import Path

import torch

from burnish import __version__
from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.scalings import Preconditioned
from burnish.guide.load import load_guide
from burnish.jobs.local import refine_file, sample_file
from burnish.refine.settings import settings_for
from burnish.storage.datasets import load_dataset
from burnish.training.config import Experiment
from burnish.training.loop import train
from burnish.training.losses.consistency import ImitationLoss
from burnish.training.recipes.parts import batches_of, plain, remade

__all__ = ["train_absorb"]


def train_absorb(experiment: Experiment, out: Path, device: str) -> Path:
    """Fine-tune the experiment's consistency model on its own images, refined by its guide.

    Sampling then takes one network call and no guide. Real images are not seen again.

    Returns:
        The folder of the new ``ConsistencyModelPipeline``.

    Raises:
        InputError: The consistency model or the guide has not been trained yet.
    """
    config, run = experiment.absorb, out / "absorbed"
    pipeline, guide_path = out / "consistency" / "pipeline", out / "joint" / "model.safetensors"
    for path in (pipeline, guide_path):
        if not path.exists():
            raise InputError(
                f"train the consistency model and the guide first; there is no {path}"
            )
    generator = ConsistencyModel.load(pipeline).to(device)
    base, refined = run / "base.npz", run / "refined.npz"
    run.mkdir(parents=True, exist_ok=True)
    guide = load_guide(str(guide_path)).to(device)
    settings = settings_for(guide, None)
    seeds = range(config.first_seed, config.first_seed + config.num_images)
    facts = {
        "generator": path_sha256(pipeline),
        "guide": path_sha256(guide_path),
        "refine": plain(settings),
        "seeds": [seeds[0], seeds[-1]],
    }
    with remade(refined, facts) as missing:
        if missing:
            sample_file(generator, seeds, base)
            refine_file(base, guide, settings, refined)
    data = load_dataset(str(refined))
    torch.manual_seed(config.training.seed)
    student = Preconditioned(generator.unet, generator.scalings, consistent=True)
    best = train(
        student, ImitationLoss(generator.scalings, config.first_seed),
        batches_of(data, config.training), config.training, run, device=device,
        settings=plain(config) | {"images_sha256": data.sha256()},
    )  # fmt: skip
    card = {
        **generator.card,
        "name": f"{experiment.name}-absorbed",
        "absorbed": plain(config),
        "guide": guide.card.get("name"),
        "guide_sha256": path_sha256(guide_path),
        "refine": plain(settings),
        "burnish": __version__,
    }
    model = ConsistencyModel(best.unet, generator.scalings, card=card)  # pyright: ignore[reportArgumentType]
    model.save(run / "pipeline")
    return run / "pipeline"
