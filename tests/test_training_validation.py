"""The validation of a joint model, and the realness of real images in its card."""

import math

import pytest
import torch

from burnish.samples import Samples
from burnish.training.attacks import attack_generated
from burnish.training.config import AttackConfig
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
    validate = validate_joint(REAL, GENERATED, real, generated)
    numbers = validate(guide)
    pushed, _ = attack_generated(guide, generated, GENERATED, 15)
    level = guide.realness(pushed, generated.labels).mean().item()
    assert numbers["realness_generated_attacked"] == pytest.approx(level, rel=1e-5)
    assert numbers["realness_generated_attacked"] > numbers["realness_generated_clean"]
    assert numbers["realness_real_attacked"] < numbers["realness_real_clean"]
    assert numbers["score"] == numbers["accuracy_attacked"] + numbers["auc_attacked"]
    assert validate(guide) == numbers


def test_the_card_has_the_quantiles_of_realness(guide, batch):
    real, _ = batch
    card = realness_card(guide, real, "noise", batch_size=5)
    assert len(card["quantiles"]) == 101 and card["num_images"] == 12
    levels = guide.realness(real.images, real.labels)
    ends = [levels.min().item(), levels.max().item()]
    assert [card["quantiles"][0], card["quantiles"][100]] == pytest.approx(ends, rel=1e-5)
