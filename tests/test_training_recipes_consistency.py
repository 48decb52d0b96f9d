"""Consistency models and their teachers: what is taken over, what is refused, what resumes."""

from dataclasses import replace

import pytest
import torch
from training_setup import SHORT, data_of, real_images

from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.load import load_generator
from burnish.training.config import ConsistencyConfig, TeacherConfig
from burnish.training.experiment import Experiment
from burnish.training.train import train

TINY = ConsistencyConfig(
    "training", {"widths": [8, 8]}, teacher=TeacherConfig(training=SHORT), training=SHORT
)


def trained(tmp_path, name, config):
    data = data_of(real_images(tmp_path / "real.npz"))
    return train("consistency", Experiment(name, data, consistency=config), out=tmp_path)


def test_the_model_and_its_teacher_are_generators(tmp_path):
    (path,) = trained(tmp_path, "it", TINY)
    model, teacher = load_generator(path), load_generator(tmp_path / "it" / "teacher/pipeline", 2)
    assert isinstance(model, ConsistencyModel) and isinstance(teacher, DiffusionModel)
    assert model.card["name"] == "it-consistency-training"
    assert teacher.card["name"] == "it-teacher"
    for one in (model, teacher):
        assert one.image_shape == (1, 8, 8) and one.num_classes == 4


def test_a_finished_training_writes_a_lost_pipeline_again(tmp_path):
    trained(tmp_path, "it", TINY)
    folder = tmp_path / "it" / "teacher" / "pipeline"
    first = load_generator(folder, 2).sample([1]).images
    folder.rename(tmp_path / "away")
    trained(tmp_path, "it", TINY)
    assert torch.equal(load_generator(folder, 2).sample([1]).images, first)


def test_a_finished_teacher_of_another_experiment_is_taken_over(tmp_path):
    trained(tmp_path, "first", TINY)
    state = tmp_path / "first" / "teacher" / "state.pt"
    before = state.stat().st_mtime_ns
    config = replace(TINY, method="distillation", teacher=replace(TINY.teacher, of="first"))
    (path,) = trained(tmp_path, "second", config)
    assert path.is_dir() and not (tmp_path / "second" / "teacher").exists()
    assert state.stat().st_mtime_ns == before
    # Another teacher under that name is refused, not overwritten.
    longer = replace(config.teacher, training=replace(SHORT, num_steps=3))
    with pytest.raises(InputError, match="other settings"):
        trained(tmp_path, "third", replace(config, teacher=longer))


def test_a_network_that_does_not_fit_is_refused(tmp_path):
    config = replace(TINY, from_teacher=False, unet={"widths": [8, 8], "depth": 3})
    with pytest.raises(InputError, match=r"consistency: unet: .*depth"):
        trained(tmp_path, "it", config)
