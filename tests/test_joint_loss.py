"""The joint loss: what its attacks do, what its gradient reaches, how the attack grows."""

import dataclasses
import math

import pytest
import torch

from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.samples import Samples
from burnish.training.config import AttackConfig, GrowthConfig, JointConfig
from burnish.training.losses.joint import (
    TERMS,
    JointLoss,
    area_under_curve,
    attack_fake,
    attack_real,
)
from burnish.training.validation import joint_loss, realness_card, validate_joint

REAL = AttackConfig(eps=0.5, step_size=0.2, num_steps=3)
FAKE = AttackConfig(eps=math.inf, step_size=0.1, num_steps=4, random_start=False)
STILL = GrowthConfig(by="never")


@pytest.fixture
def batch():
    images = torch.rand(2, 12, 1, 8, 8)
    labels = torch.arange(12) % 4
    return tuple(Samples(part, labels, torch.arange(12)) for part in images)


def buffers(guide):
    return {name: value.clone() for name, value in guide.named_buffers()}


def test_the_attack_on_the_real_lowers_their_logit_within_the_ball(guide, batch):
    real, _ = batch
    pushed = attack_real(guide, real, REAL)
    assert bool((guide.realness(pushed, real.labels) < guide.realness(*pair(real)) - 0.1).all())
    assert (pushed - real.images).flatten(1).norm(dim=1).max() <= REAL.eps + 1e-6
    assert pushed.min() >= 0 and pushed.max() <= 1


def pair(samples):
    return samples.images, samples.labels


def test_the_attack_on_the_fakes_raises_their_logit(guide, batch):
    _, fake = batch
    pushed, made = attack_fake(guide, fake, FAKE, 4)
    assert bool((guide.realness(pushed, fake.labels) > guide.realness(*pair(fake)) + 0.1).all())
    assert pushed.min() >= 0 and pushed.max() <= 1
    assert made.tolist() == [4] * 12
    untouched, made = attack_fake(guide, fake, FAKE, 0)
    assert torch.equal(untouched, fake.images) and made.sum() == 0
    bounded, _ = attack_fake(guide, fake, dataclasses.replace(FAKE, eps=0.15), 4)
    assert (bounded - fake.images).flatten(1).norm(dim=1).max() <= 0.15 + 1e-6


def test_early_stop_freezes_each_fake_at_its_own_threshold(guide, batch):
    _, fake = batch
    threshold = torch.full((12,), math.inf)
    threshold[:4] = -math.inf
    # Images 4 to 7 stop as soon as any class looks more real than at first; one step does that.
    threshold[4:8] = guide(fake.images[4:8]).detach().amax(1) + 1e-4
    pushed, made = attack_fake(guide, fake, FAKE, 6, threshold)
    assert made[:4].tolist() == [0] * 4 and torch.equal(pushed[:4], fake.images[:4])
    assert made[8:].tolist() == [6] * 4
    stopped = guide(pushed[4:8]).amax(1) > threshold[4:8]
    assert bool((stopped | (made[4:8] == 6)).all()) and 1 <= made[4:8].min() < 6
    everything, made = attack_fake(guide, fake, FAKE, 6, torch.full((12,), -math.inf))
    assert torch.equal(everything, fake.images) and made.sum() == 0


def test_a_confident_model_does_not_blunt_its_attackers(guide, batch):
    real, fake = batch
    quiet = dataclasses.replace(REAL, random_start=False)
    before = attack_real(guide, real, quiet), attack_fake(guide, fake, FAKE, 4)[0]
    guide.double()  # so that a shift of 50 costs no digits
    real, fake = (Samples(s.images.double(), s.labels, s.ids) for s in batch)
    with torch.no_grad():
        guide.network.head.bias -= 50
    after = attack_real(guide, real, quiet), attack_fake(guide, fake, FAKE, 4)[0]
    for found, expected in zip(after, before, strict=True):
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_attacks_leave_no_trace_but_the_images(guide, batch, frozen):
    state, modes = buffers(guide), []
    guide.register_forward_hook(lambda *_: modes.append(guide.network.body[1].training))
    loss = JointLoss(REAL, FAKE, STILL, freeze_batch_norm=frozen)
    value, numbers = loss(guide.train(), batch, 0)
    # Only the last pass, the one with a loss, is made in training mode.
    assert not any(modes[:-1]) and modes[-1] == (not frozen)
    assert all(parameter.grad is None for parameter in guide.parameters())
    changed = any(not torch.equal(value, state[name]) for name, value in buffers(guide).items())
    assert changed == (not frozen)
    counted = (
        guide.network.body[1].num_batches_tracked - state["network.body.1.num_batches_tracked"]
    )
    assert counted == (0 if frozen else 1)
    value.backward()
    assert all(parameter.grad is not None for parameter in guide.parameters())
    assert numbers["attack_steps_made"] > 0


def test_each_of_the_four_terms_trains_the_network(guide, batch):
    # The released code of the paper detaches three of the four: its discriminator never learns.
    def gradient(weights):
        torch.manual_seed(0)
        guide.zero_grad()
        loss = JointLoss(
            REAL, FAKE, STILL, early_stop=False, freeze_batch_norm=True, weights=weights
        )
        value, numbers = loss(guide, batch, 0)
        value.backward()
        grads = [parameter.grad.clone() for parameter in guide.parameters()]
        return value.detach(), numbers, torch.cat([grad.flatten() for grad in grads])

    total, numbers, whole = gradient(None)
    torch.testing.assert_close(total, torch.tensor(sum(numbers[term] for term in TERMS)))
    parts = []
    for term in TERMS:
        value, numbers, part = gradient({other: float(other == term) for other in TERMS})
        torch.testing.assert_close(value, torch.tensor(numbers[term]))
        assert part.norm() > 1e-3
        assert all((part - other).norm() > 1e-3 for other in parts)
        parts.append(part)
    torch.testing.assert_close(torch.stack(parts).sum(0), whole, rtol=1e-4, atol=1e-5)


def test_terms_pull_the_way_they_should(guide, batch):
    optimizer = torch.optim.Adam(guide.parameters(), 1e-2)
    real, fake = (dataclasses.replace(a, num_steps=1, step_size=0.01) for a in (REAL, FAKE))
    loss, numbers = JointLoss(real, fake, STILL, early_stop=False), {}
    for step in range(60):
        value, numbers = loss(guide, batch, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    # Real images high, generated ones low, and both of the class that they are meant to show.
    assert numbers["auc"] > 0.95 and numbers["robust_accuracy"] > 0.9
    assert numbers["realness_real"] > 0.5 and numbers["realness_attacked_fake"] < -0.5
    _, fake = batch
    assert (guide.train()(fake.images).argmax(1) == fake.labels).float().mean() > 0.9


def test_the_attack_on_the_real_can_lower_the_probability_of_the_class(guide, batch):
    real, _ = batch
    attack = dataclasses.replace(REAL, objective="ce")
    pushed, by_logit = attack_real(guide, real, attack), attack_real(guide, real, REAL)

    def log_probability(images):
        return guide(images).log_softmax(1).gather(1, real.labels[:, None]).mean()

    assert log_probability(pushed) < log_probability(by_logit) < log_probability(real.images)


def test_without_terms_on_fakes_it_is_adversarial_training(guide, batch):
    real, fake = batch
    weights = {"bce_real": 0, "bce_fake": 0, "ce_fake": 0}
    torch.manual_seed(0)
    pushed = attack_real(guide.eval(), real, REAL)
    torch.manual_seed(0)
    loss, numbers = JointLoss(REAL, FAKE, STILL, weights=weights)(guide, (real, fake), 0)
    # The batch norms are live, so a single fake in the batch would show.
    expected = torch.nn.functional.cross_entropy(guide(pushed), real.labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert "auc" not in numbers


def test_attacks_see_the_weights_of_now(guide, batch):
    kept = JointLoss(REAL, FAKE, STILL, freeze_batch_norm=True)
    kept(guide, batch, 0)
    with torch.no_grad():
        guide.network.head.weight.mul_(-1)
    numbers = []
    for loss in (kept, JointLoss(REAL, FAKE, STILL, freeze_batch_norm=True)):
        torch.manual_seed(1)
        numbers.append(loss(guide, batch, 1)[1])
    for name in ("realness_fake", "realness_real", "realness_attacked_fake"):
        assert numbers[0][name] == pytest.approx(numbers[1][name], rel=1e-5)


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="did you mean 'bce_fake'"):
        JointLoss(REAL, FAKE, STILL, weights={"bce_fakes": 0.5})
    with pytest.raises(InputError, match="finite eps"):
        JointLoss(REAL, dataclasses.replace(FAKE, random_start=True), STILL)


def test_growth_by_the_clock():
    fake = dataclasses.replace(FAKE, num_steps=5)
    loss = JointLoss(REAL, fake, GrowthConfig(by="clock", every=1000, max_steps=7))
    at = {}
    for step in range(4000):
        at[step] = loss.num_steps
        loss._grow(0.9, step)
    expected = {0: 5, 999: 5, 1000: 6, 1999: 6, 2000: 7, 3999: 7}
    assert {step: at[step] for step in expected} == expected


def test_growth_by_auc_waits_for_the_threshold_and_for_its_turn():
    loss = JointLoss(REAL, FAKE, GrowthConfig(by="auc", every=30, threshold=0.8, max_steps=7))
    grown = []
    for step in range(300):
        # Fooled at first; from step 50 on the running mean needs 18 steps from 0.5 to 0.8.
        before = loss.num_steps
        loss._grow(0.5 if step < 50 else 1.0, step)
        grown += [step] * (loss.num_steps - before)
    assert grown == [67, 97, 127] and loss.num_steps == 7
    assert 0.5 + 0.5 * (1 - 0.95**18) > 0.8 > 0.5 + 0.5 * (1 - 0.95**17)
    for step in range(300, 400):
        loss._grow(0.0, step)
    assert loss.num_steps == 7 and loss.running_auc < 0.01


def test_growth_goes_on_from_a_saved_state():
    growth = GrowthConfig(by="auc", every=30, threshold=0.6)
    whole, first, second = (JointLoss(REAL, FAKE, growth) for _ in range(3))
    for step in range(100):
        whole._grow(0.9, step)
        (first if step < 45 else second)._grow(0.9, step)
        if step == 44:
            second.load_state_dict(first.state_dict())
    assert whole.state_dict() == second.state_dict() and whole.num_steps > FAKE.num_steps


def test_area_under_curve_counts_pairs():
    positive, negative = torch.randint(6, (30,)).float(), torch.randint(6, (20,)).float() - 1
    pairs = [(p > n) + (p == n) / 2 for p in positive.tolist() for n in negative.tolist()]
    assert area_under_curve(positive, negative) == pytest.approx(sum(pairs) / 600, abs=1e-12)
    assert area_under_curve(torch.zeros(5), torch.zeros(7)) == 0.5
    assert area_under_curve(torch.ones(5), torch.zeros(7)) == 1


def test_the_validation_attacks_the_fakes_from_where_they_are(guide, batch):
    # With the default settings, an infinite ball, it once began at random black-and-white images.
    real, fake = batch
    config = JointConfig(real_attack=REAL)
    numbers = validate_joint(config, real, fake)(guide)
    pushed, _ = attack_fake(guide, fake, config.fake_attack, 15)
    level = guide.realness(pushed, fake.labels).mean().item()
    assert numbers["realness_fake_attacked"] == pytest.approx(level, rel=1e-5)
    assert numbers["realness_fake_attacked"] > numbers["realness_fake_clean"]
    assert numbers["realness_real_attacked"] < numbers["realness_real_clean"]
    assert numbers["score"] == numbers["accuracy_attacked"] + numbers["auc_attacked"]
    assert validate_joint(config, real, fake)(guide) == numbers


def test_configuration_and_card(guide, batch):
    config = JointConfig(batch_norm="frozen", early_stop=False, weights={"ce_fake": 0.5})
    loss = joint_loss(config)
    assert loss.freeze_batch_norm and not loss.early_stop and loss.num_steps == 5
    assert loss.weights == {"bce_real": 1, "bce_fake": 1, "ce_real": 1, "ce_fake": 0.5}
    real, _ = batch
    card = realness_card(guide, real, "noise", batch_size=5)
    assert len(card["quantiles"]) == 101 and card["num_images"] == 12
    levels = guide.realness(*pair(real))
    ends = [levels.min().item(), levels.max().item()]
    assert [card["quantiles"][0], card["quantiles"][100]] == pytest.approx(ends, rel=1e-5)
    assert isinstance(guide, Guide)
