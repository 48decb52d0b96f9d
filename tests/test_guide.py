"""The objectives: their identities and gradients, and what each does to a gap in realism."""

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from burnish.ascent.loop import Unbounded, last, sgld
from burnish.errors import InputError
from burnish.guide.model import OBJECTIVES, Guide
from burnish.metrics.formulas import frechet_distance
from burnish.metrics.moments import MomentSum

# Logits from the ordinary to the extreme, where a careless log(sigmoid) is infinite.
SCALES = torch.tensor([0.1, 1, 10, 100], dtype=torch.float64)


def some_logits():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 16, 5, generator=generator, dtype=torch.float64)
    logits = (logits * SCALES.view(4, 1, 1)).flatten(0, 1)
    labels = torch.randint(5, (64,), generator=generator)
    return logits, labels, logits.gather(1, labels[:, None])[:, 0]


def test_the_logit_is_both_log_odds_and_class_evidence_plus_marginal():
    logits, labels, own = some_logits()
    value = {name: function(logits, labels) for name, function in OBJECTIVES.items()}
    exact = {"rtol": 0, "atol": 1e-9}
    fake_loss = value["ce_minus_bce"] - value["ce"]  # l_BCE,0
    real_loss = -value["bce"]  # l_BCE,1
    torch.testing.assert_close(value["logit"], own, rtol=0, atol=0)
    torch.testing.assert_close(fake_loss - real_loss, own, **exact)
    torch.testing.assert_close(value["ce"] + value["logsumexp"], own, **exact)
    torch.testing.assert_close(value["ce_plus_bce"], value["ce"] + value["bce"], **exact)
    # The two that the identities leave open, against torch's own losses.
    reals = binary_cross_entropy_with_logits(own, torch.ones_like(own), reduction="none")
    torch.testing.assert_close(real_loss, reals, **exact)
    torch.testing.assert_close(value["ce"], -cross_entropy(logits, labels, reduction="none"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_the_table(name):
    logits, labels, own = some_logits()
    p, hit = logits.softmax(1), nn.functional.one_hot(labels, 5).double()
    sigma = own.sigmoid()[:, None]
    expected = {
        "logit": hit,
        "ce": hit - p,
        "bce": (1 - sigma) * hit,
        "ce_minus_bce": hit - p + sigma * hit,
        "ce_plus_bce": hit - p + (1 - sigma) * hit,
        "logsumexp": p,
    }[name]
    logits.requires_grad_()
    (found,) = torch.autograd.grad(OBJECTIVES[name](logits, labels).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    # Central differences, one logit at a time; every image's value must be its own.
    step = 1e-5
    for k in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[k] = step
        with torch.no_grad():
            rise = OBJECTIVES[name](logits + shift, labels) - OBJECTIVES[name](
                logits - shift, labels
            )
        torch.testing.assert_close(rise / (2 * step), expected[:, k], rtol=0, atol=1e-6)


@pytest.mark.parametrize("energy", ["logit", "logsumexp"])
def test_energy_realness_and_objectives_agree(guide, energy):
    guide = Guide(guide.network, energy=energy).eval()
    images, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 1])
    logits = guide(images)
    torch.testing.assert_close(guide.energy(images, labels), -logits[range(5), labels])
    torch.testing.assert_close(guide.energy(images), -logits.logsumexp(1))
    realness = guide.realness(images, labels)
    of_labels = labels if energy == "logit" else None
    torch.testing.assert_close(realness, -guide.energy(images, of_labels))
    torch.testing.assert_close(guide.realness_of(logits, labels), realness)
    values, found = guide.objective(energy)(images, labels)
    torch.testing.assert_close(values, realness)
    torch.testing.assert_close(found, realness)


def test_one_pass_gives_the_objective_and_the_realness(guide):
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    values, realness = guide.objective("ce")(images, labels)
    torch.testing.assert_close(realness, guide.realness(images, labels).detach())
    assert values.requires_grad and not realness.requires_grad
    assert not torch.allclose(values, realness)


def test_misspelt_names_are_answered_with_the_nearest(guide):
    with pytest.raises(InputError, match="did you mean 'ce_minus_bce'"):
        guide.objective("ce_minus_bec")
    with pytest.raises(InputError, match="did you mean 'logsumexp'"):
        Guide(nn.Identity(), energy="logsumexpp")


# Two classes in the plane; generated points are shifted by 1 and 1.3 times as wide. The table is
# the Frechet distance to real points after so many raw-gradient steps of 0.05, as computed in
# numpy from another draw of points, before this project was written.
TABLE = {
    5: {"logit": 0.626, "bce": 0.743, "ce_minus_bce": 0.997, "ce": 1.140},
    15: {"logit": 0.123, "bce": 0.315, "ce_minus_bce": 0.739, "ce": 1.140},
    25: {"logit": 0.056, "bce": 0.151, "ce_minus_bce": 0.523, "ce": 1.141},
    40: {"logit": 0.345, "bce": 0.110, "ce_minus_bce": 0.285, "ce": 1.142},
}
WIDTH = 20.0  # of the plane that [0, 1] pixels span; no point comes near its border


def points(count, shift, scale, generator):
    labels = torch.arange(count) % 2
    means = torch.stack([4.0 * labels - 2, torch.zeros(count)], 1)
    noise = torch.randn(count, 2, generator=generator)
    return means + torch.tensor([0.0, shift]) + scale * noise, labels


class Quadratic(nn.Module):
    """Logits that are quadratic in the plane: enough for the log ratio of two Gaussians."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 2)

    def forward(self, images):
        x, y = ((images.flatten(1) - 0.5) * WIDTH).unbind(1)
        return self.head(torch.stack([x, y, x * x, y * y, x * y], 1))


def as_images(plane):
    return (plane / WIDTH + 0.5).view(-1, 1, 1, 2)


def trained_toy(real, fake):
    guide = Guide(Quadratic())
    optimizer = torch.optim.LBFGS(guide.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        total = torch.zeros(())
        for (plane, labels), target in ((real, 1.0), (fake, 0.0)):
            logits = guide(as_images(plane))
            own = logits.gather(1, labels[:, None])[:, 0]
            total = total + cross_entropy(logits, labels)
            total = total + binary_cross_entropy_with_logits(own, torch.full_like(own, target))
        total.backward()
        return total

    optimizer.step(loss)
    return guide.requires_grad_(False)


def test_what_each_objective_does_to_a_gap_in_realism():
    generator = torch.Generator().manual_seed(0)
    real, fake = points(4000, 0.0, 1.0, generator), points(4000, 1.0, 1.3, generator)
    guide = trained_toy(real, fake)

    def gap(images):
        sums = MomentSum(), MomentSum()
        for total, plane in zip(sums, ((images.flatten(1) - 0.5) * WIDTH, real[0]), strict=True):
            total.add(plane.numpy())
        return frechet_distance(generated=sums[0].moments(), reference=sums[1].moments())

    def refined(name, num_steps):
        # Raw steps of 0.05 in the plane: the pixels' gradient is WIDTH times the plane's, and a
        # pixel WIDTH times as long.
        assess = guide.objective(name)
        images = as_images(fake[0])
        steps = sgld(
            lambda here: assess(here, fake[1])[0], images, Unbounded(), 0.05 / WIDTH**2, num_steps
        )
        images = last(steps, images)
        assert images.min() > 0.1 and images.max() < 0.9  # the box had no part in it
        return gap(images)

    names = TABLE[5]
    start = gap(as_images(fake[0]))
    after = {n: {name: refined(name, n) for name in names} for n in TABLE}
    assert start == pytest.approx(1.14, abs=0.05)
    for num_steps, row in TABLE.items():
        assert after[num_steps] == pytest.approx(row, abs=0.07)
    # The raw logit is fastest and best of all, until it goes too far.
    assert min(min(row.values()) for row in after.values()) == after[25]["logit"] < 0.07
    assert after[40]["logit"] > 3 * after[25]["logit"]
    for num_steps in (5, 15, 25):
        row = after[num_steps]
        assert row["logit"] < row["bce"] < row["ce_minus_bce"] < row["ce"]
    assert start > after[5]["bce"] > after[15]["bce"] > after[25]["bce"] > after[40]["bce"]
    # The class alone says nothing of realism.
    assert all(abs(row["ce"] / start - 1) < 0.05 for row in after.values())
