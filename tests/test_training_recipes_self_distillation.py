"""Self-distillation: one step of the new model lands nearer to the refined images."""

import math
from dataclasses import replace

import pytest
import torch
from training_setup import SHORT, data_of, real_images

from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.storage.formats import open_samples
from burnish.training.config import (
    AttackConfig,
    ConsistencyConfig,
    GrowthConfig,
    JointConfig,
    SelfDistillationConfig,
    TrainingConfig,
)
from burnish.training.experiment import Experiment
from burnish.training.train import train


def experiment(data):
    attack = AttackConfig(eps=math.inf, step_size=0.1, num_steps=1, random_start=False)
    return Experiment(
        "it",
        data_of(data),
        consistency=ConsistencyConfig(
            "training", {"widths": [8, 8]}, from_teacher=False, training=SHORT
        ),
        joint=JointConfig(
            {"name": "resnet", "width": 4, "num_blocks": 1}, num_generated=20, training=SHORT,
            generated_attack=attack, growth=GrowthConfig("never"),
            refine={"eps": 1.0, "num_steps": 3, "stop_quantile": 1.0},
        ),
        self_distillation=SelfDistillationConfig(
            24, 7000, replace(SHORT, num_steps=60, learning_rate=3e-3)
        ),
    )  # fmt: skip


def test_one_step_of_the_new_model_is_nearer_to_the_refined_images(tmp_path):
    whole = experiment(real_images(tmp_path / "real.npz"))
    (before,) = train("consistency", whole, out=tmp_path)
    train("joint", whole, out=tmp_path)
    (after,) = train("self-distillation", whole, out=tmp_path)
    assert after == tmp_path / "it" / "self-distillation" / "pipeline"
    generated, refined = (
        next(iter(open_samples(after.parent / name))) for name in ("generated.npz", "refined.npz")
    )
    # The image with id i is the one that sampling gives for seed first_seed + i.
    made = ConsistencyModel.load(before).sample(range(7000, 7024))
    torch.testing.assert_close(generated.images, made.images, rtol=0, atol=0.5 / 255 + 1e-6)
    assert generated.ids.tolist() == made.ids.tolist()

    def distance(folder):
        made = ConsistencyModel.load(folder).sample(range(7000, 7024))
        return (made.images - refined.images).square().mean().item()

    assert 0 < distance(after) < 0.7 * distance(before)


def test_it_needs_both_models(tmp_path):
    with pytest.raises(InputError, match="train the consistency model and the guide"):
        train("self-distillation", experiment(tmp_path / "real.npz"), out=tmp_path)


def test_images_that_belong_to_their_noise_are_not_mirrored():
    with pytest.raises(InputError, match="flip must be false"):
        SelfDistillationConfig(training=TrainingConfig(flip=True))
