"""The teacher as a generator."""

import torch

from burnish import recipes
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.load import load_generator
from burnish.storage.datasets import Dataset
from burnish.training.config import ConsistencyConfig, Experiment, TeacherConfig, TrainingConfig

STEPS = TrainingConfig(num_steps=6, batch_size=8, warmup_steps=1, save_every=2, log_every=1)


# The teacher.


def real(count=24):
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Dataset(images, torch.arange(count) % 4, "noise")


def test_a_finished_teacher_gets_its_pipeline_and_older_runs_resume(tmp_path):
    config = ConsistencyConfig(
        "training", {"widths": [8, 16], "norm_num_groups": 4},
        teacher=TeacherConfig(training=STEPS), training=STEPS,
    )  # fmt: skip
    experiment, out = Experiment("tiny", consistency=config), tmp_path / "tiny"
    recipes.train_consistency(experiment, real(), out, "cpu")
    folder = out / "teacher" / "pipeline"
    first = load_generator(str(folder), 2)
    assert isinstance(first, DiffusionModel) and first.card["name"] == "tiny-teacher"
    # As a run of before there were pipelines, or a momentum.
    folder.rename(tmp_path / "away")
    for path in out.glob("*/config.json"):
        text = path.read_text()
        path.write_text(text.replace('"momentum": 0.9,', ""))
        assert path.read_text() != text
    states = {path: path.stat().st_mtime_ns for path in out.glob("*/state.pt")}
    recipes.train_consistency(experiment, real(), out, "cpu")
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/state.pt")} == states
    again = load_generator(str(folder), 2)
    assert torch.equal(again.sample([1]).images, first.sample([1]).images)
