"""What attacks in training do to images, and where they stop."""

import dataclasses
import math

import pytest
import torch

from burnish.samples import Samples
from burnish.training.config import AttackConfig
from burnish.training.losses.joint import attack_generated, attack_real

REAL = AttackConfig(eps=0.5, step_size=0.2, num_steps=3)
GENERATED = AttackConfig(eps=math.inf, step_size=0.1, num_steps=4, random_start=False)


def pair(samples):
    return samples.images, samples.labels


@pytest.fixture
def batch():
    images = torch.rand(2, 12, 1, 8, 8)
    labels = torch.arange(12) % 4
    return tuple(Samples(part, labels, torch.arange(12)) for part in images)


def test_the_attack_on_the_real_lowers_their_logit_within_the_ball(guide, batch):
    real, _ = batch
    pushed = attack_real(guide, real, REAL)
    assert (guide.realness(pushed, real.labels) < guide.realness(*pair(real)) - 0.1).all()
    assert (pushed - real.images).flatten(1).norm(dim=1).max() <= 0.5 + 1e-6
    assert pushed.min() >= 0 and pushed.max() <= 1


def test_the_ball_is_of_the_norm_that_was_asked_for(guide, batch):
    real, _ = batch
    attack = AttackConfig(norm="linf", eps=0.03, step_size=0.02, num_steps=3)
    moved = (attack_real(guide, real, attack) - real.images).abs()
    assert moved.max() <= 0.03 + 1e-6 and (moved > 0.02).float().mean() > 0.5


def test_the_attack_on_the_generated_raises_their_logit(guide, batch):
    _, generated = batch
    pushed, made = attack_generated(guide, generated, GENERATED)
    assert (
        guide.realness(pushed, generated.labels) > guide.realness(*pair(generated)) + 0.1
    ).all()
    assert pushed.min() >= 0 and pushed.max() <= 1
    assert made.tolist() == [4] * 12
    untouched, made = attack_generated(
        guide, generated, dataclasses.replace(GENERATED, num_steps=0)
    )
    assert torch.equal(untouched, generated.images) and made.sum() == 0
    bounded, _ = attack_generated(guide, generated, dataclasses.replace(GENERATED, eps=0.15))
    assert (bounded - generated.images).flatten(1).norm(dim=1).max() <= 0.15 + 1e-6


def test_early_stop_freezes_each_generated_image_at_its_own_threshold(guide, batch):
    _, generated = batch
    six, threshold = dataclasses.replace(GENERATED, num_steps=6), torch.full((12,), math.inf)
    threshold[:4] = -math.inf
    # Images 4 to 7 stop as soon as any class looks more real than at first; one step does that.
    threshold[4:8] = guide(generated.images[4:8]).detach().amax(1) + 1e-4
    pushed, made = attack_generated(guide, generated, six, threshold)
    assert made[:4].tolist() == [0] * 4 and torch.equal(pushed[:4], generated.images[:4])
    assert made[8:].tolist() == [6] * 4
    stopped = guide(pushed[4:8]).amax(1) >= threshold[4:8]
    assert bool((stopped | (made[4:8] == 6)).all()) and 1 <= made[4:8].min() < 6
    nowhere = torch.full((12,), -math.inf)
    everything, made = attack_generated(guide, generated, six, nowhere)
    assert torch.equal(everything, generated.images) and made.sum() == 0


def test_a_confident_model_does_not_blunt_its_attackers(guide, batch):
    real, generated = batch
    quiet = dataclasses.replace(REAL, random_start=False)
    before = attack_real(guide, real, quiet), attack_generated(guide, generated, GENERATED)[0]
    guide.double()  # so that a shift of 50 costs no digits
    real, generated = (Samples(s.images.double(), s.labels, s.ids) for s in batch)
    with torch.no_grad():
        guide.network.head.bias -= 50
    after = attack_real(guide, real, quiet), attack_generated(guide, generated, GENERATED)[0]
    for found, expected in zip(after, before, strict=True):
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=1e-5)


def test_the_attack_on_the_real_can_lower_the_probability_of_the_class(guide, batch):
    real, _ = batch
    attack = dataclasses.replace(REAL, objective="ce")
    pushed, by_logit = attack_real(guide, real, attack), attack_real(guide, real, REAL)

    def log_probability(images):
        return guide(images).log_softmax(1).gather(1, real.labels[:, None]).mean()

    assert log_probability(pushed) < log_probability(by_logit) < log_probability(real.images)
