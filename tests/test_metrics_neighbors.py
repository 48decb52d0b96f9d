"""Neighborhoods: exact by screening, in bounded memory, and in the arithmetic of other tools."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity.metric_prc import calculate_precision_recall_full

from burnish.metrics import distances, screening
from burnish.metrics.distances import half_squares
from burnish.metrics.formulas import precision_recall
from burnish.metrics.neighbors import neighborhoods


def normal(seed, *shape, times=1.0, shift=0.0):
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (times * rows + shift).astype(np.float32)


def copies(seed, spread):
    """Return 8 clusters of near copies, far from each other."""
    centers = np.repeat(normal(seed, 8, 30, times=10), 40, axis=0)
    return centers + normal(seed + 1, 320, 30, times=spread)


# Generated and reference images, k.
CASES = {
    "plain": (normal(0, 300, 12), normal(1, 250, 12, times=1.1), 3),
    "few": (normal(2, 7, 4), normal(3, 5, 4), 4),
    "far from zero": (normal(4, 300, 9, shift=3e3), normal(5, 260, 9, shift=3e3), 5),
    "tiny": (normal(6, 300, 9, times=1e-20), normal(7, 260, 9, times=1e-20), 3),
    "huge": (normal(8, 300, 9, times=1e14), normal(9, 260, 9, times=1e14), 3),
    "an outlier": (np.r_[normal(10, 299, 9), np.full((1, 9), 1e6)], normal(11, 260, 9), 3),
    "ties": (np.round(normal(12, 300, 3) * 3), np.round(normal(13, 260, 3) * 3), 5),
    "all equal": (np.ones((300, 30)), np.ones((260, 30), np.float32), 3),
    "copies": (np.repeat(normal(14, 30, 20), 10, 0), np.repeat(normal(14, 30, 20), 9, 0), 4),
    "near copies": (copies(15, 1e-2), copies(15, 1e-2), 5),
    "near copies in balls": (copies(17, 1e-3), copies(17, 0.1), 50),
    "half": (normal(19, 300, 9).astype(np.float16), normal(20, 260, 9), 2),
}


def direct(generated, reference, k, closed):
    """Return who is inside the balls of reference and of generated images, from plain sums."""

    def squares(x, y):
        return np.square(x[:, None].astype(np.float64) - y[None]).sum(2)

    radii = [np.sort(squares(x, x), axis=1)[:, k] for x in (generated, reference)]
    center = reference.mean(0, dtype=np.float64)
    longest = max(np.square(x - center).sum(1).max() for x in (generated, reference))
    own, theirs = (r + (1e-13 if closed else -1e-13) * longest for r in radii)
    found, below = squares(generated, reference), np.less_equal if closed else np.less
    return below(found, theirs), below(found, own[:, None])


def sole(inside):
    return np.where(inside.sum(0) == 1, inside.argmax(0), -1)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_every_pair_is_decided_as_in_float64(monkeypatch, case, closed):
    # Small blocks, so that rows meet in the block of the rows, in later ones and across.
    monkeypatch.setattr(screening, "ROWS", 64)
    for module in (screening, distances):
        monkeypatch.setattr(module, "BLOCK", 32)
        monkeypatch.setattr(module.cut, "__defaults__", (32, 0))
    generated, reference, k = CASES[case]
    found = neighborhoods(generated=generated, reference=reference, num_neighbors=k, closed=closed)
    inside, holding = direct(generated, reference, k, closed)
    np.testing.assert_array_equal(found.around, inside.sum(1))
    np.testing.assert_array_equal(found.visitors, inside.sum(0))
    np.testing.assert_array_equal(found.holders, holding.sum(0))
    np.testing.assert_array_equal(found.visitor, sole(inside))
    np.testing.assert_array_equal(found.holder, sole(holding))


def test_the_bound_of_float32_products_holds_and_is_needed():
    # Far outliers shrink all others towards the precision of float32.
    x = np.r_[normal(21, 200, 64), normal(22, 8, 64, times=300)]
    (side,) = screening._sides(x, center=x.mean(0, dtype=np.float64))
    rows = slice(0, len(x))
    low = side.factor(rows, left=True) @ side.factor(rows, left=False).T
    exact = np.square((x[:, None].astype(np.float64) - x[None]) * side.scale).sum(2)
    width = 2 * side.error * (side.norms[:, None] + side.norms)
    assert (low <= exact).all() and (exact <= low + width).all()
    near = np.sort(np.where(np.eye(len(x)), np.inf, exact), axis=1)
    undecided = (low < near[:, 2:3]) & (low + width > near[:, 2:3])
    assert undecided.sum() > len(x), "the bound decides everything: a weak test"


def test_they_are_those_of_prdc_and_of_torch_fidelity():
    generated, reference = normal(23, 400, 20, shift=0.2), normal(24, 350, 20)
    sides: dict[str, Any] = {"generated": generated, "reference": reference}
    theirs = compute_prdc(reference.astype(float), generated.astype(float), 5)
    found = precision_recall(**sides, num_neighbors=5, closed=False)
    assert found == pytest.approx(theirs, abs=1e-12)
    tensors = torch.from_numpy(generated), torch.from_numpy(reference)
    precision, recall = calculate_precision_recall_full(*tensors, 3)
    found = precision_recall(**sides, arithmetic="float32")
    assert (found["precision"], found["recall"]) == pytest.approx((precision, recall), abs=1e-6)


def test_half_precision_rounds_inputs_norms_products_and_sums():
    one, zero = torch.tensor([[1.0, 0]]), torch.zeros(1, 2)
    # Inputs: 1 + 2^-11 is no half and becomes 1.
    assert half_squares(one * (1 + 2**-11), zero).item() == 1
    # Norms: 3601 becomes 3600, so that the difference of 3601 and 2 * 3600 - 3600 is lost.
    u, v = torch.tensor([[60.0, 1]]), torch.tensor([[60.0, 0]])
    assert half_squares(u, v).item() == 0 and half_squares(u, v, half=False).item() == 1
    # Sums, the first of them before the second: 2049 - 0 + 1 is 2048 + 1, and that is 2048.
    assert half_squares(45 * one + torch.tensor([[0, 4.8]]), zero).item() == 2048
    # Never below 0, and beyond 65504 infinite.
    assert (half_squares(torch.rand(50, 9) * 60, torch.rand(50, 9) * 60) >= 0).all()
    assert torch.isinf(half_squares(300 * one, zero)).all()


def test_rounding_to_half_makes_ties_and_one_large_number_makes_a_block_float32(monkeypatch):
    # Norms of 400: squares of distances are multiples of 1/4 .. 1/2, many of them equal.
    generated, reference = normal(25, 300, 400), normal(26, 300, 400)
    sides: dict[str, Any] = {"generated": generated, "reference": reference}
    exact = precision_recall(**sides)
    half = precision_recall(**sides, arithmetic="float16")
    assert half["precision"] > exact["precision"] and half["recall"] > exact["recall"]
    # 300 squared is beyond float16, so that all blocks that hold it are done in float32.
    outlier = np.full((1, 400), 300.0)
    large: dict[str, Any] = {side: np.r_[rows, outlier] for side, rows in sides.items()}
    single = precision_recall(**large, arithmetic="float16")
    assert single == pytest.approx(precision_recall(**large), abs=1e-9)
    # In other blocks nothing changes. (The large number comes last, in a block of its own.)
    monkeypatch.setattr(distances, "ADM_BLOCK", 300)
    large["reference"] = reference
    apart = neighborhoods(**large, num_neighbors=3, arithmetic="float16")
    whole = neighborhoods(**sides, num_neighbors=3, arithmetic="float16")
    np.testing.assert_array_equal(apart.around[:300], whole.around)


def test_memory_does_not_grow_with_the_number_of_pairs(tmp_path):
    def peak(count):
        path = tmp_path / f"{count}.npy"
        np.save(path, normal(27, count, 64))
        rows = np.load(path, mmap_mode="r")
        tracemalloc.start()
        neighborhoods(generated=rows, reference=rows[: count // 2], num_neighbors=3)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # All distances of 12,000 x 6,000 would take 576 MB.
    assert peak(12_000) < 1.3 * peak(6_000) < 150e6
