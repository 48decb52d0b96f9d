"""Batches through the slots: all of them, in order, by calls of one size."""

import pytest
import torch

from burnish.ascent.balls import L2Ball, Unbounded
from burnish.ascent.loop import climb
from burnish.ascent.step import Step, value_and_gradient
from burnish.refinement.batching import Batch, climb_batches, in_batches
from burnish.samples import Samples

TARGET = torch.linspace(0, 1, 16).view(1, 1, 4, 4)
STEP = Step(L2Ball(3.0), 0.2)


def distance(images, labels):
    """Minus the distance to the target, which images of label 0 do not know of."""
    values = -(images - TARGET).flatten(1).norm(dim=1)
    return torch.where(labels > 0, values, -10.0), torch.where(labels > 0, values, -10.0)


def some_samples(count):
    images = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Samples(images, None, 100 + torch.arange(count))


def as_batches(samples, sizes, lazy=()):
    """Cut samples into batches; images of the batches ``lazy`` have no gradient."""
    parts = samples.images.split(sizes), samples.ids.split(sizes)
    for n, (images, ids) in enumerate(zip(*parts, strict=True)):
        labels = torch.full((len(images),), n not in lazy, dtype=torch.int64)
        yield Batch.of(Samples(images, None, ids), labels)


def through(batches, size, num_steps, **options):
    options = {"threshold": None, "noise": None, "gradient": value_and_gradient, **options}
    objective = options.pop("objective", distance)
    return climb_batches(objective, batches, size, options.pop("step", STEP), num_steps, **options)


@pytest.mark.parametrize("size", [1, 3, 8, 50])
@pytest.mark.parametrize("threshold", [None, -0.7])
def test_images_come_out_as_from_one_fixed_batch(size, threshold):
    samples, sizes, calls = some_samples(29), [8, 8, 8, 5], []

    def counted(images, labels):
        calls.append(len(images))
        return distance(images, labels)

    batches = as_batches(samples, sizes)
    done = list(through(batches, size, 6, objective=counted, threshold=threshold))
    assert [part.samples.ids[0].item() for part in done] == [100, 108, 116, 124]
    labels = torch.ones(29, dtype=torch.int64)
    images, num_steps = climb(
        distance, samples.images, labels, ball=STEP.ball, step_size=STEP.step_size, num_steps=6,
        threshold=threshold,
    )  # fmt: skip
    torch.testing.assert_close(torch.cat([part.images for part in done]), images)
    assert torch.equal(torch.cat([part.num_steps for part in done]), num_steps)
    before = torch.cat([part.objective_before for part in done])
    torch.testing.assert_close(before, distance(samples.images, labels)[0])
    assert torch.equal(torch.cat([part.realness_before for part in done]), before)
    # Every call is full. An image takes one per step, and one more that finds it real enough.
    assert set(calls) == {size}
    wanted = int(num_steps.sum()) + int((num_steps < 6).sum())
    assert wanted <= sum(calls) <= wanted + 7 * size
    if threshold is not None:
        assert len(set(num_steps.tolist())) > 3


@pytest.mark.parametrize("size", [1, 4, 50])
@pytest.mark.parametrize("sizes", [[40], [1] * 40, [3, 37]], ids=["one", "singles", "two"])
def test_no_image_is_lost_however_they_are_cut(size, sizes):
    # With 50 slots, batches of one image fill the queue before they fill the slots.
    samples = some_samples(40)
    done = list(through(as_batches(samples, sizes), size, 2))
    assert torch.equal(torch.cat([part.samples.ids for part in done]), samples.ids)
    assert all(bool((part.num_steps == 2).all()) for part in done)


def test_nothing_comes_of_nothing():
    assert not list(through(iter([]), 4, 2))


def noted(batches, taken):
    """Hand out batches one by one and note which were taken."""
    for batch in batches:
        taken.append(batch)
        yield batch


def test_images_wait_for_those_before_them():
    taken = []
    batches = as_batches(some_samples(80), [2] * 40, lazy=[0])
    stream = through(noted(batches, taken), 4, 7, threshold=-0.9)
    first = next(stream)
    assert torch.equal(first.images, first.samples.images) and first.num_steps.tolist() == [7, 7]
    # In seven steps, the two other slots took in seven pairs at most, and one more batch begun.
    assert 2 < len(taken) <= 2 + 7
    assert len(list(stream)) == 39


def test_only_so_many_batches_wait(monkeypatch):
    monkeypatch.setattr("burnish.refinement.batching.MAX_WAITING", 3)
    taken = []
    batches = as_batches(some_samples(40), [1] * 40, lazy=[0])
    stream = through(noted(batches, taken), 4, 30, threshold=-0.9)
    assert next(stream).num_steps.tolist() == [30]
    assert len(taken) == 4
    assert len(list(stream)) == 39


def test_the_noise_of_an_image_is_that_of_its_id_and_step():
    def noise(ids, steps, shape):
        return torch.stack(
            [torch.full(shape, id_ / 1e3 + k) for id_, k in zip(ids, steps, strict=True)]
        )

    step = Step(Unbounded(), 0.0, normalized=False, noise_std=1 / 16, clamp=False)
    samples = some_samples(6).with_images(torch.full((6, 1, 4, 4), 0.25))
    done = list(through(as_batches(samples, [3, 3]), 4, 2, step=step, noise=noise))
    found = torch.cat([part.images for part in done])[:, 0, 0, 0]
    torch.testing.assert_close(found, 0.25 + (2 * samples.ids / 1e3 + 1) / 16)


@pytest.mark.parametrize("count", [1, 4, 6])
def test_functions_are_called_on_full_batches(count):
    calls = []

    def double(values):
        calls.append(len(values))
        return 2 * values, values.flatten(1).sum(1)

    values = torch.randn(count, 3)
    doubled, sums = in_batches(double, 4, values)
    assert calls == [4] * -(-count // 4)
    assert torch.equal(doubled, 2 * values) and torch.equal(sums, values.sum(1))
