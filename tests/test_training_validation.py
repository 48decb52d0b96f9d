"""The validation of a joint model, and the realness of real images in its card."""

import math
from dataclasses import replace

import pytest
import torch

from burnish.samples import Samples, to_uint8
from burnish.storage.datasets import Dataset
from burnish.training.config import AttackConfig, JointConfig
from burnish.training.losses.joint import attack_generated
from burnish.training.validation import realness_card, validate_joint

REAL = AttackConfig(eps=0.5, step_size=0.2, num_steps=3)
GENERATED = AttackConfig(eps=math.inf, step_size=0.1, num_steps=4, random_start=False)


@pytest.fixture
def batch():
    images = torch.rand(2, 12, 1, 8, 8)
    labels = torch.arange(12) % 4
    return tuple(Samples(part, labels, torch.arange(12)) for part in images)


def test_the_validation_attacks_the_generated_from_where_they_are(guide, batch):
    real, generated = batch
    validate = validate_joint(
        JointConfig(real_attack=REAL, generated_attack=GENERATED), real, generated
    )
    numbers = validate(guide)
    pushed, _ = attack_generated(guide, generated, replace(GENERATED, num_steps=15))
    level = guide.realness(pushed, generated.labels).mean().item()
    assert numbers["realness_generated_attacked"] == pytest.approx(level, rel=1e-5)
    assert numbers["realness_generated_attacked"] > numbers["realness_generated_clean"]
    assert numbers["realness_real_attacked"] < numbers["realness_real_clean"]
    assert numbers["score"] == numbers["accuracy_attacked"] + numbers["auc_attacked"]
    assert validate(guide) == numbers


def test_the_card_has_the_quantiles_of_realness(guide, batch):
    real, _ = batch
    real = Dataset(to_uint8(real.images.repeat(50, 1, 1, 1)), real.labels.repeat(50), "noise")
    card = realness_card(guide, real)
    assert len(card["quantiles"]) == 101 and card["num_images"] == 600
    levels = guide.realness(real.samples().images, real.labels)
    ends = [levels.min().item(), levels.max().item()]
    assert [card["quantiles"][0], card["quantiles"][100]] == pytest.approx(ends, rel=1e-5)
