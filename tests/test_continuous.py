"""Continuous batching: the same images as one by one, no pass that nobody needs."""

import pytest
import torch

from burnish.ascent.loop import L2Ball, Update, pgd
from burnish.refine.batching import climb
from burnish.samples import Samples

TARGET = torch.linspace(0, 1, 16).view(1, 1, 4, 4)
UPDATE = Update(L2Ball(3.0), 0.2)


def values_of(images):
    return -(images - TARGET).flatten(1).norm(dim=1)


def step(images, center, labels, noise):
    """Walk towards the target, ``labels`` tenths of the usual length."""
    del noise
    towards = (TARGET - images) / (TARGET - images).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    values = values_of(images)
    moved = UPDATE(images, towards * (labels > 0).view(-1, 1, 1, 1), center)
    return moved, values, values


def some_batches(sizes):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(sum(sizes), 1, 4, 4, generator=generator)
    samples = Samples(images, None, torch.arange(sum(sizes)))
    parts, start = [], 0
    for size in sizes:
        parts.append((samples[slice(start, start + size)], torch.ones(size, dtype=torch.int64)))
        start += size
    return samples, parts


@pytest.mark.parametrize("size", [1, 3, 8, 50])
@pytest.mark.parametrize("threshold", [None, -0.7])
def test_images_come_out_as_from_a_fixed_batch(size, threshold):
    samples, batches = some_batches([8, 8, 8, 5])
    calls = []

    def counted(*batch):
        calls.append(len(batch[0]))
        return step(*batch)

    done = list(climb(counted, batches, size, 6, threshold=threshold))
    assert [len(part.samples) for part in done] == [8, 8, 8, 5]
    stop = None if threshold is None else lambda values: values >= threshold
    iterates = list(pgd(values_of, samples.images, L2Ball(3.0), 0.2, 6, stop=stop))
    images = torch.cat([part.images for part in done])
    torch.testing.assert_close(images, iterates[-1].images)
    steps = torch.cat([part.num_steps for part in done])
    assert torch.equal(steps, torch.stack([iterate.moved for iterate in iterates]).sum(0))
    before = torch.cat([part.objective_before for part in done])
    torch.testing.assert_close(before, values_of(samples.images))
    torch.testing.assert_close(torch.cat([part.realness_before for part in done]), before)
    # One look per step made, and one more at images that are found to look real enough.
    stopped = int((steps < 6).sum())
    assert sum(calls) == int(steps.sum()) + stopped
    if threshold is not None:
        assert 0 < stopped < 29 and len(set(steps.tolist())) > 3
    # Only when no images are left to take a place is a batch less than full.
    full = [n == min(size, 29) for n in calls]
    assert full == sorted(full, reverse=True)
    assert sum(full) >= len(calls) - 6


def noted(batches, taken):
    """Hand out batches one by one and note which were taken."""
    for batch in batches:
        taken.append(batch)
        yield batch


def test_images_wait_for_those_before_them_but_not_for_long():
    _, batches = some_batches([2] * 40)
    slow = torch.zeros(2, dtype=torch.int64)
    batches[0] = (batches[0][0], slow)  # never moves, never stops
    taken = []
    stream = climb(step, noted(batches, taken), 4, 7, threshold=-0.9)
    first = next(stream)
    assert torch.equal(first.images, batches[0][0].images) and first.num_steps.tolist() == [7, 7]
    # In seven steps, the two other places took in seven pairs at most, and one more batch begun.
    assert 2 < len(taken) <= 2 + 7
    assert len(list(stream)) == 39


def test_only_so_many_batches_wait(monkeypatch):
    monkeypatch.setattr("burnish.refine.batching.MOST_WAITING", 3)
    _, batches = some_batches([1] * 40)
    batches[0] = (batches[0][0], torch.zeros(1, dtype=torch.int64))
    taken = []
    stream = climb(step, noted(batches, taken), 4, 30, threshold=-0.9)
    next(stream)
    assert len(taken) == 4
    assert len(list(stream)) == 39


def test_noise_knows_the_image_and_its_step():
    _, batches = some_batches([3, 3])
    asked = []

    def noise(ids, steps):
        asked.append((ids, steps))
        return torch.zeros(len(ids), 1, 4, 4)

    list(climb(step, batches, 4, 2, noise=noise))
    assert asked == [
        ([0, 1, 2, 3], [0, 0, 0, 0]),
        ([0, 1, 2, 3], [1, 1, 1, 1]),
        ([4, 5], [0, 0]),
        ([4, 5], [1, 1]),
    ]
