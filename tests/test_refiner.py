"""The refiner: bytes that depend on no other image, a true ledger, and what it refuses."""

import dataclasses

import pytest
import torch

from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.refinement.batching import Batch
from burnish.refinement.ledger import settle
from burnish.refinement.refiner import Refiner, check_fit
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples, to_uint8

PGD = RefineSettings(eps=1.0, step_size=0.25, num_steps=5)
SGLD = RefineSettings(
    update="sgld", norm="none", step_size=0.05, num_steps=5, noise_std=0.02, clamp_each=False
)


def some_samples(count=16, shape=(1, 8, 8), num_classes=4):
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))
    images[0] = images[0].round()  # on the border of the box
    return Samples(images, torch.arange(count) % num_classes, 100 + torch.arange(count))


def refine(refiner, samples, sizes=None):
    """Refine in batches of these sizes; returns images and ledger columns, in order."""
    starts = torch.tensor([0, *(sizes or [])]).cumsum(0).tolist()
    batches = [samples[a:b] for a, b in zip(starts, [*starts[1:], len(samples)], strict=True)]
    done = list(refiner(batches, samples.labels))
    columns = [part.ledger.columns() for part in done]
    joined = {name: [v for part in columns for v in part[name]] for name in columns[0]}
    assert torch.equal(torch.cat([part.samples.ids for part in done]), samples.ids)
    return torch.cat([part.samples.images for part in done]), joined


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_the_bytes_of_an_image_depend_on_no_other_image(name, precision):
    """At a fixed batch size and precision: not on the others, their number, order or batches."""
    guide = load_guide(name)
    samples = some_samples(13, guide.card["image_shape"], 10)
    with torch.no_grad():
        realness = guide.realness(samples.images, torch.arange(13) % 10)
    # Some images stop before others, so that they change slots and neighbors.
    guide.card["realness"] = {"quantiles": realness.double().sort().values.tolist()}
    settings = RefineSettings(eps=1.0, step_size=0.3, num_steps=2, stop_quantile=0.7)
    refiner = Refiner(guide, settings, precision=precision, batch_size=8)
    expected, ledger = refine(refiner, samples)
    assert len(set(ledger["num_steps"])) > 1 and not torch.equal(expected, samples.images)

    for count in (1, 2, 3, 5, 7):
        images, rows = refine(refiner, samples[:count])
        assert torch.equal(images, expected[:count])
        assert rows == {name: values[:count] for name, values in ledger.items()}
    order = torch.tensor([12, 3, 7, 0, 11, 5, 1, 9, 10, 2, 8, 4, 6])
    images, rows = refine(refiner, samples[order], sizes=[1, 5, 2])
    assert torch.equal(images, expected[order])
    assert rows == {name: [values[i] for i in order] for name, values in ledger.items()}
    for count in (3, 13):
        *_, last = refiner.path(samples.images[:count], torch.arange(count) % 10)
        assert torch.equal(last, expected[:count])


@pytest.mark.parametrize("settings", [PGD, SGLD], ids=["pgd", "sgld"])
@pytest.mark.parametrize("count", [3, 11])
def test_the_path_begins_at_the_images_and_goes_through_every_number_of_steps(
    guide, settings, count
):
    samples = some_samples(count)
    settings = dataclasses.replace(settings, clamp_each=True)
    labels = torch.arange(count) % 4
    path = list(Refiner(guide, settings, batch_size=4).path(samples.images, labels, samples.ids))
    assert len(path) == 6 and torch.equal(path[0], samples.images)
    for num_steps, images in enumerate(path):
        shorter = dataclasses.replace(settings, num_steps=num_steps)
        expected, _ = refine(Refiner(guide, shorter, batch_size=4), samples)
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-6)
    unmoved = dataclasses.replace(settings, num_steps=0)
    (only,) = Refiner(guide, unmoved).path(samples.images, labels)
    assert torch.equal(only, samples.images)


class Counting(Guide):
    """A guide that notes how many images its objective is given."""

    def objective(self, objective="logit"):
        assess = super().objective(objective)

        def counted(images, labels):
            self.card["calls"].append(len(images))
            return assess(images, labels)

        return counted


def test_every_call_of_the_guide_has_the_batch_size(guide):
    samples = some_samples(11)
    counting = Counting(guide.network, {**guide.card, "calls": []})
    refiner = Refiner(counting, dataclasses.replace(PGD, stop_quantile=0.7), batch_size=4)
    refine(refiner, samples, sizes=[1, 7])
    for count in (1, 11):
        list(refiner.path(samples.images[:count], torch.arange(count) % 4))
    assert len(counting.card["calls"]) > 20 and set(counting.card["calls"]) == {4}
    rows = []
    refiner.guide.register_forward_hook(lambda *call: rows.append(len(call[2])))
    assert len(refiner.logits(samples.images)) == 11 and rows == [4, 4, 4]


@pytest.mark.parametrize("settings", [PGD, SGLD], ids=["pgd", "sgld"])
def test_the_batch_size_changes_only_the_rounding(guide, settings):
    samples = some_samples(64)
    settings = dataclasses.replace(settings, stop_quantile=0.9)
    expected, _ = refine(Refiner(guide, settings, batch_size=64), samples)
    for size in (1, 7):
        images, _ = refine(Refiner(guide, settings, batch_size=size), samples)
        # A convolution sums in another order for another batch size: 1e-7 of a logit, and little
        # more of a unit gradient. 1e-5 of the whole range is 1/400 of a level.
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
    assert (expected - samples.images).abs().amax((1, 2, 3)).min() > 0.005


@pytest.mark.parametrize(
    "settings",
    [
        dataclasses.replace(PGD, eps=0.0),
        dataclasses.replace(PGD, eps=0.0, norm="linf"),
        dataclasses.replace(PGD, num_steps=0),
        dataclasses.replace(PGD, step_size=0.0),
        dataclasses.replace(SGLD, eps=0.0, norm="l2"),
        dataclasses.replace(SGLD, num_steps=0),
    ],
    ids=str,
)
def test_where_nothing_is_asked_no_bit_changes(guide, settings):
    samples = some_samples(8)
    images, ledger = refine(Refiner(guide, settings), samples)
    assert torch.equal(images, samples.images)
    assert torch.equal(to_uint8(images), to_uint8(samples.images))
    assert ledger["objective_after"] == pytest.approx(ledger["objective_before"], abs=1e-5)
    asked = settings.num_steps and settings.eps
    reason = "all steps made" if asked else "no steps asked"
    assert ledger["stopped"] == [reason] * 8
    assert ledger["num_steps"] == [settings.num_steps if asked else 0] * 8


def test_noise_is_a_function_of_id_and_seed(guide):
    # Without a gradient to follow, what an image moves by is its noise.
    settings = dataclasses.replace(SGLD, step_size=0.0, noise_std=0.01)
    gray = torch.full((4, 1, 8, 8), 0.5)
    first = Samples(gray, torch.zeros(4, dtype=torch.int64), torch.tensor([5, 6, 7, 5]))
    images, _ = refine(Refiner(guide, settings), first)
    assert torch.equal(images[0], images[3]) and not torch.equal(images[0], images[1])
    # Another order, batch size and label: the same id, the same noise.
    other = Samples(gray, torch.ones(4, dtype=torch.int64), torch.tensor([7, 9, 6, 5]))
    again, _ = refine(Refiner(guide, settings, batch_size=3), other)
    assert torch.equal(again[[3, 2, 0]], images[:3])
    seeded, _ = refine(Refiner(guide, dataclasses.replace(settings, seed=1)), first)
    assert not torch.isclose(seeded, images).all(dim=(1, 2, 3)).any()
    assert (images - 0.5).std() == pytest.approx(0.01 * 5**0.5, rel=0.2)


@pytest.mark.parametrize("objective", ["logit", "ce", "bce", "logsumexp"])
@pytest.mark.parametrize("settings", [PGD, dataclasses.replace(PGD, norm="linf", eps=0.1)])
def test_the_ledger_says_what_was_done(guide, settings, objective):
    samples = some_samples()
    settings = dataclasses.replace(settings, objective=objective)
    images, ledger = refine(Refiner(guide, settings), samples)
    moved = (images - samples.images).flatten(1)
    assess = guide.objective(objective)
    expected = {
        "id": samples.ids,
        "label": samples.labels,
        "objective_before": assess(samples.images, samples.labels)[0],
        "objective_after": assess(images, samples.labels)[0],
        "realness_before": guide.realness(samples.images, samples.labels),
        "realness_after": guide.realness(images, samples.labels),
        "l2_moved": moved.norm(dim=1),
        "linf_moved": moved.abs().amax(1),
        "num_steps": torch.full((16,), 5),
    }
    assert list(ledger) == [*expected, "worse", "stopped"]
    for name, value in expected.items():
        torch.testing.assert_close(
            torch.tensor(ledger[name]), value.detach(), rtol=1e-5, atol=1e-5
        )
    assert ledger["stopped"] == ["all steps made"] * 16
    rise = torch.tensor(ledger["objective_after"]) - torch.tensor(ledger["objective_before"])
    assert rise.min() > 0
    assert settings.eps is not None
    largest = max(ledger["l2_moved" if settings.norm == "l2" else "linf_moved"])
    assert 0.9 * settings.eps < largest <= settings.eps + 1e-6


@pytest.mark.parametrize("objective", ["bce", "ce"])
def test_images_that_got_worse_are_marked_or_kept_as_they_were(guide, objective):
    # Steps of noise alone: some images rise and some fall.
    settings = dataclasses.replace(SGLD, objective=objective, step_size=0.0)
    samples = some_samples(32)
    images, ledger = refine(Refiner(guide, settings), samples)
    # The cross-entropy does not ask how real an image is, so that realness does not judge it.
    name = "objective" if objective == "ce" else "realness"
    before, after = (torch.tensor(ledger[f"{name}_{when}"]) for when in ("before", "after"))
    worse = torch.tensor(ledger["worse"])
    assert torch.equal(worse, after < before) and 0 < worse.sum() < 32
    settings = dataclasses.replace(settings, keep_better=True)
    kept, columns = refine(Refiner(guide, settings), samples)
    assert torch.equal(kept[worse], samples.images[worse])
    assert torch.equal(kept[~worse], images[~worse])
    assert [reason == "kept as it was" for reason in columns["stopped"]] == worse.tolist()
    assert not any(columns["worse"]) and columns["num_steps"] == ledger["num_steps"]
    for column in ("l2_moved", "linf_moved"):
        assert torch.equal(torch.tensor(columns[column]) == 0, worse)
    for one in ("objective", "realness"):
        expected = torch.tensor(ledger[f"{one}_before"]).where(
            worse, torch.tensor(ledger[f"{one}_after"])
        )
        assert torch.equal(torch.tensor(columns[f"{one}_after"]), expected)


def test_an_image_that_did_not_move_is_not_worse_however_passes_round():
    batch = Batch.of(some_samples(4), torch.arange(4))
    batch.images[1:] *= 0.99
    after = (torch.zeros(4) - 1e-6,) * 2
    ledger = settle(batch, after, PGD, by_realness=True).ledger
    assert ledger.worse.tolist() == [False, True, True, True]


def test_without_the_realness_of_real_images_the_objective_says_what_got_worse(guide):
    del guide.card["realness"]
    settings = dataclasses.replace(SGLD, objective="ce_minus_bce", step_size=0.0)
    _, ledger = refine(Refiner(guide, settings), some_samples(32))
    for name, judges in (("objective", True), ("realness", False)):
        before, after = (torch.tensor(ledger[f"{name}_{when}"]) for when in ("before", "after"))
        assert ((after < before).tolist() == ledger["worse"]) == judges


def test_images_climb_until_they_are_real_enough_and_no_further(guide):
    samples = some_samples(64)
    before = guide.realness(samples.images, samples.labels).detach()
    guide.card["realness"]["quantiles"] = before.double().sort().values.tolist()
    threshold = before.sort().values[20:22].mean().item()  # between two images
    settings = dataclasses.replace(PGD, step_size=0.05, num_steps=8, stop_quantile=20.5 / 63)
    images, ledger = refine(Refiner(guide, settings), samples)
    steps, realness = torch.tensor(ledger["num_steps"]), torch.tensor(ledger["realness_after"])
    enough = before >= threshold
    assert enough.sum() == 43 and torch.equal(images[enough], samples.images[enough])
    assert torch.equal(steps == 0, enough)
    stopped = torch.tensor([reason == "real enough" for reason in ledger["stopped"]])
    assert torch.equal(stopped, steps < 8) and 0 < (stopped & ~enough).sum() < 21
    assert realness[stopped].min() >= threshold - 1e-5
    shorter = dataclasses.replace(settings, num_steps=int(steps[stopped].max()) - 1)
    _, earlier = refine(Refiner(guide, shorter), samples)
    last_step = steps == steps[stopped].max()
    assert bool((torch.tensor(earlier["realness_after"])[last_step] < threshold).all())


def test_sgld_that_stops_early_still_ends_in_the_box(guide):
    # Clamped once at the end: that end may come early, when every image has been stopped.
    wild = dataclasses.replace(SGLD, step_size=1.0, num_steps=30, stop_quantile=1.0)
    images, ledger = refine(Refiner(guide, wild), some_samples(8))
    assert images.min() == 0 and images.max() == 1
    assert max(ledger["num_steps"]) < 30 and set(ledger["stopped"]) == {"real enough"}


def test_an_image_without_a_gradient_says_so(guide):
    with torch.no_grad():
        guide.network.head.weight[0] = 0
    samples = some_samples(4)
    images, ledger = refine(Refiner(guide, PGD), samples)
    assert ledger["stopped"] == ["no gradient"] + ["all steps made"] * 3
    assert torch.equal(images[0], samples.images[0])


class Brighten(Guide):
    """A guide whose objective is the mean of the image, counted for its label."""

    def objective(self, objective="logit"):
        def assess(images, labels):
            values = images.flatten(1).mean(1) * labels
            return values, values

        return assess


def test_an_objective_of_a_subclass_is_climbed(guide):
    samples = Samples(torch.full((2, 1, 8, 8), 0.5), torch.tensor([1, 2]), torch.arange(2))
    refiner = Refiner(Brighten(guide.network, guide.card), PGD)
    images, ledger = refine(refiner, samples)
    torch.testing.assert_close(images, samples.images + 1 / 8)  # L2 radius 1 over 64 pixels
    assert ledger["objective_after"] == pytest.approx([0.625, 1.25])


def test_an_objective_may_be_a_function_of_the_logits(guide):
    def class_logit(logits, labels):
        return logits.gather(1, labels[:, None])[:, 0]

    by_function = dataclasses.replace(PGD, objective=class_logit)
    found, _ = refine(Refiner(guide, by_function), some_samples())
    expected, _ = refine(Refiner(guide, PGD), some_samples())
    assert torch.equal(found, expected)


def test_what_does_not_fit_the_guide_is_refused(guide):
    samples = some_samples(4)
    assert check_fit(guide, samples, samples.labels) == 4
    refiner = Refiner(guide, PGD)
    for labels, message in (
        (torch.tensor([0, 1, 2, 4]), "label 4 is not one of this guide's 0 .. 3"),
        (torch.tensor([0, -1, 2, 3]), "label -1"),
        (None, "--labels pseudo"),
        (torch.tensor([0, 1, 2]), "3 labels are fewer"),
    ):
        with pytest.raises(InputError, match=message):
            list(refiner([samples], labels))
    rgb = Samples(torch.rand(2, 3, 8, 8), None, torch.arange(2))
    with pytest.raises(InputError, match=r"does not take images of shape \[3, 8, 8\]"):
        list(refiner([rgb], torch.zeros(2, dtype=torch.int64)))
    guide.card["image_shape"] = [1, 28, 28]
    with pytest.raises(InputError, match=r"takes images of shape \[1, 28, 28\], not \[1, 8, 8\]"):
        check_fit(guide, samples, None)
    with pytest.raises(InputError, match="precision"):
        Refiner(guide, PGD, precision="float16")
    with pytest.raises(InputError, match="batch_size"):
        Refiner(guide, PGD, batch_size=0)


def test_bfloat16_is_inside_the_guide_alone(guide):
    samples, inside = some_samples(8), []
    guide.network.head.register_forward_hook(lambda *call: inside.append(call[2].dtype))
    images, ledger = refine(Refiner(guide, PGD, precision="bfloat16"), samples)
    assert set(inside) == {torch.bfloat16}
    assert images.dtype == torch.float32
    moved = (images - samples.images).flatten(1).norm(dim=1)
    assert moved.max() <= 1.0 + 1e-6 and images.min() >= 0 and images.max() <= 1
    torch.testing.assert_close(torch.tensor(ledger["l2_moved"]), moved)
    exact, _ = refine(Refiner(guide, PGD), samples)
    assert 0 < (images - exact).flatten(1).norm(dim=1).max() < 0.1
