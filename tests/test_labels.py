"""Labels to refine towards: pseudo, balanced, and exact quotas near the best assignment."""

import itertools

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from burnish.errors import InputError
from burnish.refinement.labels import (
    assign_with_quotas,
    balanced_labels,
    choose_labels,
    equal_quotas,
    pseudo_labels,
)
from burnish.samples import Samples


def total(logits, labels):
    return logits.double().log_softmax(1)[torch.arange(len(labels)), labels].sum().item()


def best_total(logits, quotas):
    shares = [k for k, quota in enumerate(quotas) for _ in range(quota)]
    return max(total(logits, torch.tensor(p)) for p in set(itertools.permutations(shares)))


@pytest.mark.parametrize("quotas", [[2, 2, 2], [4, 1, 1], [0, 3, 3], [7], [5, 0]])
def test_quotas_are_met_at_nearly_the_best_total(quotas):
    for seed, scale in enumerate([0.3, 1, 3, 10]):
        generator = torch.Generator().manual_seed(seed)
        logits = scale * torch.randn(sum(quotas), len(quotas), generator=generator)
        logits[:, 0] += 2  # the pile-up that quotas are for
        labels = assign_with_quotas(logits, torch.tensor(quotas))
        assert labels.bincount(minlength=len(quotas)).tolist() == quotas
        best = best_total(logits, quotas)
        assert total(logits, labels) >= best - 0.01 * abs(best) - 1e-9


@pytest.mark.parametrize(("scale", "loss"), [(1, 0.01), (10, 0.04)])
def test_quotas_of_many_images(scale, loss):
    # Sure of itself (scale 10), a guide makes the total small and a single misplaced image dear.
    generator = torch.Generator().manual_seed(4)
    logits = scale * torch.randn(501, 10, generator=generator) + torch.arange(10) / 3
    quotas = equal_quotas(501, 10)
    assert quotas.tolist() == [51] + [50] * 9
    labels = assign_with_quotas(logits, quotas)
    assert torch.equal(labels.bincount(minlength=10), quotas)
    places = torch.arange(10).repeat_interleave(quotas)
    gains = logits.double().log_softmax(1)[:, places].numpy()
    rows, columns = linear_sum_assignment(gains, maximize=True)
    best = gains[rows, columns].sum()
    assert best - loss * abs(best) <= total(logits, labels) <= best + 1e-9
    with pytest.raises(ValueError, match="quotas of 500"):
        assign_with_quotas(logits, equal_quotas(500, 10))


def test_pseudo_labels_are_the_likeliest_classes():
    logits = torch.tensor([[0.1, 0.3, 0.2], [5, 4, 3], [-3, -2, -1]])
    assert pseudo_labels(logits).tolist() == [1, 0, 2]


def test_balanced_labels_undo_a_constant_bias_of_a_class():
    logits = torch.randn(1000, 5)
    logits -= logits.mean(0)
    biased = logits + torch.tensor([0, 0, 4.0, 0, -1])
    assert (pseudo_labels(biased) == 2).float().mean() > 0.9
    balanced = balanced_labels(biased, biased.mean(0))
    assert (balanced == pseudo_labels(logits)).float().mean() > 0.999  # up to rounded ties


@pytest.mark.parametrize("labeling", ["pseudo", "balanced", "quotas"])
def test_chosen_labels_do_not_depend_on_the_batches(labeling):
    samples = Samples(torch.rand(1100, 1, 2, 2), None, torch.arange(1100))
    weight = torch.randn(4, 3, dtype=torch.float64)

    def guide(images):  # float64, so that the size of a batch leaves no trace in the logits
        return images.flatten(1).double() @ weight + torch.tensor([1.0, 0, 0])

    chosen = [
        choose_labels([samples[i : i + size] for i in range(0, 1100, size)], guide, labeling)
        for size in (1, 64, 1100)
    ]
    assert torch.equal(chosen[0], chosen[1]) and torch.equal(chosen[0], chosen[2])
    logits = guide(samples.images)
    expected = {
        "pseudo": logits.argmax(1),
        "balanced": (logits - logits[:1000].mean(0)).argmax(1),
        "quotas": assign_with_quotas(logits, torch.tensor([367, 367, 366])),
    }
    assert torch.equal(chosen[0], expected[labeling])


def test_a_misspelt_labeling_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'balanced'"):
        choose_labels([], lambda images: images, "balance")
