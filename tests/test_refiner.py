"""The refiner: equal bytes where nothing is asked, equal images in any batch, a true ledger."""

import dataclasses

import pytest
import torch

from burnish.errors import InputError
from burnish.refine.refiner import (
    Refiner,
    RefineSettings,
    check_fit,
    realness_quantile,
)
from burnish.samples import Samples, to_uint8

PGD = RefineSettings(eps=1.0, step_size=0.25, num_steps=5)
SGLD = RefineSettings(
    update="sgld", norm="none", step_size=0.05, num_steps=5, noise_std=0.02, clamp_each=False
)


def some_samples(count=64):
    images = torch.rand(count, 1, 8, 8)
    images[0], images[1] = images[0].round(), 0.0  # on the border of the box
    return Samples(images, torch.arange(count) % 4, 100 + torch.arange(count))


def refine(guide, settings, samples, size=64, precision="float32", **options):
    """Refine in batches of ``size``; returns images and ledger columns, in order."""
    refiner = Refiner(guide, settings, precision, **options)
    batches = [samples[i : i + size] for i in range(0, len(samples), size)]
    done = list(refiner(batches, samples.labels))
    columns = [part.ledger.columns() for part in done]
    joined = {name: [v for part in columns for v in part[name]] for name in columns[0]}
    assert all(torch.equal(p.samples.ids, b.ids) for p, b in zip(done, batches, strict=True))
    return torch.cat([part.samples.images for part in done]), joined


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
    images, ledger = refine(guide, settings, samples)
    assert torch.equal(images, samples.images)
    assert torch.equal(to_uint8(images), to_uint8(samples.images))
    assert ledger["objective_after"] == ledger["objective_before"]
    reason = "all steps made" if settings.num_steps else "no steps asked"
    assert ledger["stopped"] == [reason] * 8
    assert ledger["num_steps"] == [settings.num_steps] * 8


@pytest.mark.parametrize("settings", [PGD, SGLD], ids=["pgd", "sgld"])
def test_an_image_does_not_depend_on_its_batch(guide, settings):
    samples = some_samples()
    settings = dataclasses.replace(settings, stop_quantile=0.9)
    together, _ = refine(guide, settings, samples)
    backwards = samples[torch.arange(63, -1, -1)]
    for images in (
        refine(guide, settings, samples, size=1)[0],
        refine(guide, settings, samples, size=7)[0],
        refine(guide, settings, backwards, size=10)[0].flip(0),
    ):
        # A float32 convolution sums in another order for another batch size: 1e-7 of a logit, and
        # little more of a unit gradient. 1e-5 of the whole range is 1/400 of a level, so levels
        # agree but for values that lie within that of the border between two.
        torch.testing.assert_close(images, together, rtol=0, atol=1e-5)
        border = ((together * 255) % 1 - 0.5).abs() < 255e-5
        assert bool(((to_uint8(images) == to_uint8(together)) | border).all())
    assert (together - samples.images).abs().amax((1, 2, 3)).min() > 0.005


def test_noise_is_a_function_of_id_and_seed(guide):
    # Without a gradient to follow, what an image moves by is its noise.
    settings = dataclasses.replace(SGLD, step_size=0.0, noise_std=0.01)
    grey = torch.full((4, 1, 8, 8), 0.5)
    first = Samples(grey, torch.zeros(4, dtype=torch.int64), torch.tensor([5, 6, 7, 5]))
    images, _ = refine(guide, settings, first)
    assert torch.equal(images[0], images[3]) and not torch.equal(images[0], images[1])
    # Another order, batch size and label: the same id, the same noise.
    other = Samples(grey, torch.ones(4, dtype=torch.int64), torch.tensor([7, 9, 6, 5]))
    again, _ = refine(guide, settings, other, size=3)
    assert torch.equal(again[[3, 2, 0]], images[:3])
    seeded, _ = refine(guide, dataclasses.replace(settings, seed=1), first)
    assert not torch.isclose(seeded, images).all(dim=(1, 2, 3)).any()
    assert (images - 0.5).std() == pytest.approx(0.01 * 5**0.5, rel=0.2)


@pytest.mark.parametrize("objective", ["logit", "ce", "bce", "logsumexp"])
@pytest.mark.parametrize("settings", [PGD, dataclasses.replace(PGD, norm="linf", eps=0.1)])
def test_the_ledger_says_what_was_done(guide, settings, objective):
    samples = some_samples(16)
    settings = dataclasses.replace(settings, objective=objective)
    images, ledger = refine(guide, settings, samples)
    moved = (images - samples.images).flatten(1)
    assess = guide.objective(objective)
    expected = {
        "objective_before": assess(samples.images, samples.labels)[0],
        "objective_after": assess(images, samples.labels)[0],
        "realness_before": guide.realness(samples.images, samples.labels),
        "realness_after": guide.realness(images, samples.labels),
        "l2_moved": moved.norm(dim=1),
        "linf_moved": moved.abs().amax(1),
    }
    for name, value in expected.items():
        torch.testing.assert_close(
            torch.tensor(ledger[name]), value.detach(), rtol=1e-6, atol=1e-6
        )
    assert (
        ledger["id"] == samples.ids.tolist() and ledger["label"] == (torch.arange(16) % 4).tolist()
    )
    assert ledger["num_steps"] == [5] * 16 and ledger["stopped"] == ["all steps made"] * 16
    rise = torch.tensor(ledger["objective_after"]) - torch.tensor(ledger["objective_before"])
    assert rise.min() > 0
    assert settings.eps is not None
    largest = max(ledger["l2_moved" if settings.norm == "l2" else "linf_moved"])
    assert 0.9 * settings.eps < largest <= settings.eps + 1e-6


def test_images_that_look_real_enough_are_left_alone(guide):
    samples = some_samples()
    before = guide.realness(samples.images, samples.labels).detach()
    guide.card["realness"]["quantiles"] = before.double().sort().values.tolist()
    threshold = before.sort().values[20:22].mean().item()  # between two images
    settings = dataclasses.replace(PGD, step_size=0.05, num_steps=8, stop_quantile=20.5 / 63)
    images, ledger = refine(guide, settings, samples)
    steps, realness = torch.tensor(ledger["num_steps"]), torch.tensor(ledger["realness_after"])
    enough = before >= threshold
    assert enough.sum() == 43 and torch.equal(images[enough], samples.images[enough])
    assert torch.equal(steps == 0, enough)
    # The others climb until they are real enough, and no further.
    stopped = torch.tensor([reason == "real enough" for reason in ledger["stopped"]])
    assert torch.equal(stopped, steps < 8) and 0 < (stopped & ~enough).sum() < 21
    assert realness[stopped].min() >= threshold - 1e-6
    shorter = dataclasses.replace(settings, num_steps=int(steps[stopped].max()) - 1)
    _, earlier = refine(guide, shorter, samples)
    last_step = steps == steps[stopped].max()
    assert bool((torch.tensor(earlier["realness_after"])[last_step] < threshold).all())


def test_sgld_that_stops_early_still_ends_in_the_box(guide):
    # Clamped once at the end: that end may come early, when every image has been stopped.
    samples = some_samples(8)
    wild = dataclasses.replace(SGLD, step_size=1.0, num_steps=30, stop_quantile=1.0)
    images, ledger = refine(guide, wild, samples)
    assert images.min() == 0 and images.max() == 1
    assert max(ledger["num_steps"]) < 30 and set(ledger["stopped"]) == {"real enough"}


def test_an_image_without_a_gradient_says_so(guide):
    with torch.no_grad():
        guide.network.head.weight[0] = 0
    samples = some_samples(4)
    images, ledger = refine(guide, PGD, samples)
    assert ledger["stopped"] == ["no gradient"] + ["all steps made"] * 3
    assert torch.equal(images[0], samples.images[0])


def test_quantiles_are_interpolated(guide):
    guide.card["realness"]["quantiles"] = [-1.0, 0.0, 4.0]
    found = [realness_quantile(guide, q) for q in (0, 0.25, 0.5, 0.6, 1)]
    assert found == pytest.approx([-1, -0.5, 0, 0.8, 4]) and realness_quantile(guide, None) is None


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
    colour = Samples(torch.rand(2, 3, 8, 8), None, torch.arange(2))
    with pytest.raises(InputError, match=r"does not take images of shape \[3, 8, 8\]"):
        list(refiner([colour], torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(InputError, match="precision"):
        Refiner(guide, PGD, "float16")


def test_bfloat16_is_inside_the_guide_alone(guide):
    samples, inside = some_samples(8), []
    guide.network.head.register_forward_hook(lambda *call: inside.append(call[2].dtype))
    images, ledger = refine(guide, PGD, samples, precision="bfloat16")
    assert set(inside[1:]) == {torch.bfloat16}  # the first call only looks at the shapes
    assert images.dtype == torch.float32
    moved = (images - samples.images).flatten(1).norm(dim=1)
    assert moved.max() <= 1.0 + 1e-6 and images.min() >= 0 and images.max() <= 1
    torch.testing.assert_close(torch.tensor(ledger["l2_moved"]), moved)
    exact, _ = refine(guide, PGD, samples)
    assert 0 < (images - exact).flatten(1).norm(dim=1).max() < 0.1
