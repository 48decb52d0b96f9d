"""The joint loss: what its gradient reaches, what it leaves alone, how its attack grows."""

import dataclasses
import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.training.config import TERMS, AttackConfig, GrowthConfig, JointConfig, TrainingConfig
from burnish.training.losses.joint import AttackGrowth, JointLoss, area_under_curve, attack_real

REAL = AttackConfig(eps=0.5, step_size=0.2, num_steps=3)
GENERATED = AttackConfig(eps=math.inf, step_size=0.1, num_steps=4, random_start=False)
STILL = GrowthConfig(by="never")


def joint_loss(real=REAL, generated=GENERATED, **more):
    more = {"real_attack": real, "generated_attack": generated, "growth": STILL} | more
    training = TrainingConfig(precision="float32")
    return JointLoss(JointConfig(training=training, **more))


@pytest.fixture
def batch():
    images = torch.rand(2, 12, 1, 8, 8)
    labels = torch.arange(12) % 4
    return tuple(Samples(part, labels, torch.arange(12)) for part in images)


def buffers(guide):
    return {name: value.clone() for name, value in guide.named_buffers()}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_attacks_leave_no_trace_but_the_images(guide, batch, frozen, precision):
    AcceleratorState._reset_state(reset_partial_state=True)
    guide = Accelerator(cpu=True, mixed_precision=precision).prepare(guide)
    state, modes = buffers(guide), []
    norm = guide.network.body[1]
    norm.register_forward_hook(lambda module, *_: modes.append(module.training))
    loss = joint_loss(batch_norm="frozen" if frozen else "live")
    value, numbers = loss(guide.train(), batch, 0)
    # Attacks see a copy in eval mode; only the last pass, the one with a loss, trains.
    assert not any(modes[:-1]) and modes[-1] == (not frozen)
    assert all(parameter.grad is None for parameter in guide.parameters())
    changed = any(not torch.equal(value, state[name]) for name, value in buffers(guide).items())
    assert changed == (not frozen)
    counted = norm.num_batches_tracked - state["network.body.1.num_batches_tracked"]
    assert counted == (0 if frozen else 1)
    value.backward()
    assert all(parameter.grad is not None for parameter in guide.parameters())
    assert numbers["attack_steps_made"] > 0


def test_each_of_the_four_terms_trains_the_network(guide, batch):
    # The released code of the paper detaches three of the four: its discriminator never learns.
    def gradient(weights):
        torch.manual_seed(0)
        guide.zero_grad()
        loss = joint_loss(early_stop=False, batch_norm="frozen", weights=weights)
        value, numbers = loss(guide, batch, 0)
        value.backward()
        grads = [parameter.grad.clone() for parameter in guide.parameters()]
        return value.detach(), numbers, torch.cat([grad.flatten() for grad in grads])

    total, numbers, whole = gradient({})
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
    real, generated = (
        dataclasses.replace(a, num_steps=1, step_size=0.01) for a in (REAL, GENERATED)
    )
    loss, numbers = joint_loss(real, generated, early_stop=False), {}
    for step in range(60):
        value, numbers = loss(guide, batch, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    # Real images high, generated ones low, and both of the class that they are meant to show.
    assert numbers["auc"] > 0.95 and numbers["robust_accuracy"] > 0.9
    assert numbers["realness_real"] > 0.5 and numbers["realness_attacked_generated"] < -0.5
    _, generated = batch
    assert (guide.train()(generated.images).argmax(1) == generated.labels).float().mean() > 0.9


def test_without_terms_on_generated_images_it_is_adversarial_training(guide, batch):
    real, generated = batch
    weights = {"bce_real": 0, "bce_generated": 0, "ce_generated": 0}
    torch.manual_seed(0)
    pushed = attack_real(guide.eval(), real, REAL)
    torch.manual_seed(0)
    loss, numbers = joint_loss(weights=weights)(guide, (real, generated), 0)
    # The batch norms are live, so a single generated image in the batch would show.
    expected = torch.nn.functional.cross_entropy(guide(pushed), real.labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert "auc" not in numbers


def test_attacks_see_the_weights_of_now(guide, batch):
    kept = joint_loss(batch_norm="frozen")
    kept(guide, batch, 0)
    with torch.no_grad():
        guide.network.head.weight.mul_(-1)
    numbers = []
    for loss in (kept, joint_loss(batch_norm="frozen")):
        torch.manual_seed(1)
        numbers.append(loss(guide, batch, 1)[1])
    for name in ("realness_generated", "realness_real", "realness_attacked_generated"):
        assert numbers[0][name] == pytest.approx(numbers[1][name], rel=1e-5)


def test_an_unknown_term_is_refused():
    with pytest.raises(InputError, match="did you mean 'bce_generated'"):
        JointConfig(weights={"bce_generatd": 0.5})


def test_growth_by_the_clock():
    growth = AttackGrowth(GrowthConfig(by="clock", every=1000, max_steps=7), 5)
    at = {}
    for step in range(4000):
        at[step] = growth.num_steps
        growth.update(0.9, step)
    expected = {0: 5, 999: 5, 1000: 6, 1999: 6, 2000: 7, 3999: 7}
    assert {step: at[step] for step in expected} == expected


def test_growth_by_auc_waits_for_the_threshold_and_for_its_turn():
    growth = AttackGrowth(GrowthConfig(by="auc", every=30, threshold=0.8, max_steps=7), 4)
    grown = []
    for step in range(300):
        # Fooled at first; from step 50 on the running mean needs 18 steps from 0.5 to 0.8.
        before = growth.num_steps
        growth.update(0.5 if step < 50 else 1.0, step)
        grown += [step] * (growth.num_steps - before)
    assert grown == [67, 97, 127] and growth.num_steps == 7
    assert 0.5 + 0.5 * (1 - 0.95**18) > 0.8 > 0.5 + 0.5 * (1 - 0.95**17)
    for step in range(300, 400):
        growth.update(0.0, step)
    assert growth.num_steps == 7 and growth.running_auc < 0.01


def test_growth_goes_on_from_a_saved_state():
    config = GrowthConfig(by="auc", every=30, threshold=0.6)
    whole, first, second = (AttackGrowth(config, 4) for _ in range(3))
    for step in range(100):
        whole.update(0.9, step)
        (first if step < 45 else second).update(0.9, step)
        if step == 44:
            second.load_state_dict(first.state_dict())
    assert whole.state_dict() == second.state_dict() and whole.num_steps > 4


def test_area_under_curve_counts_pairs():
    positive, negative = torch.randint(6, (30,)).float(), torch.randint(6, (20,)).float() - 1
    pairs = [(p > n) + (p == n) / 2 for p in positive.tolist() for n in negative.tolist()]
    assert area_under_curve(positive, negative) == pytest.approx(sum(pairs) / 600, abs=1e-12)
    assert area_under_curve(torch.zeros(5), torch.zeros(7)) == 0.5
    assert area_under_curve(torch.ones(5), torch.zeros(7)) == 1
