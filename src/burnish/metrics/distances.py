"""Distances of features in blocks, in the arithmetic of the tool whose numbers are wanted.

Features are ``[N, D]`` of any float type, in memory or mapped from a file. One block at a time is
in memory, some 50 MB at D = 2048, whatever N is.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from burnish.metrics.moments import Array

Arithmetic = Literal["float64", "float32", "float16"]
Block = tuple[slice, slice, Array]

BLOCK = 1024
# ADM's own blocks: one number that float16 cannot hold, and the whole block is in float32.
ADM_BLOCK = 10_000
# Error of squared distances from float64 products, in units of the largest squared norm.
ROUNDING = 1e-13


def cut(count: int, size: int = BLOCK, first: int = 0) -> Iterator[slice]:
    """Yield the slices of ``size`` rows, the last may be shorter, from ``first`` to ``count``."""
    for start in range(first, count, size):
        yield slice(start, min(start + size, count))


def distances(x: Array, y: Array, arithmetic: Arithmetic, center: Array) -> Iterator[Block]:
    """Yield blocks of distances of the rows of two sets; compare them with each other only.

    ========= ======================================================================
    float64   squares, from products of centered rows; errors up to :data:`ROUNDING`
    float32   ``torch.cdist``, as in torch-fidelity
    float16   squares as in ADM's evaluator, see :func:`half_squares`
    ========= ======================================================================

    Args:
        x: ``[N, D]``.
        y: ``[M, D]``.
        arithmetic: See above.
        center: ``[D]``, subtracted in float64, so that little cancels.
    """
    if arithmetic == "float16":
        yield from _adm(x, y)
        return
    a: Any
    for rows in cut(len(x)):
        a = x[rows].astype(np.float64) - center if arithmetic == "float64" else _single(x[rows])
        for columns in cut(len(y)):
            if arithmetic == "float64":
                yield rows, columns, squares(a, y[columns].astype(np.float64) - center)
            else:
                yield rows, columns, torch.cdist(a, _single(y[columns])).numpy()  # pyright: ignore


def squares(a: Array, b: Array) -> Array:
    """Return ``|a_i - b_j|^2``, at least 0, of float64 rows."""
    found = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)
    return np.maximum(found, 0, out=found)


def _single(x: Array) -> Tensor:
    return torch.from_numpy(np.array(x, np.float32))


def _adm(x: Array, y: Array) -> Iterator[Block]:
    for outer in cut(len(x), ADM_BLOCK):
        for inner in cut(len(y), ADM_BLOCK):
            fits = all(bool(d.isfinite().all()) for *_, d in _parts(x, y, outer, inner, True))
            for rows, columns, found in _parts(x, y, outer, inner, fits):
                yield rows, columns, found.float().numpy()


def _parts(
    x: Array, y: Array, outer: slice, inner: slice, half: bool
) -> Iterator[tuple[slice, slice, Tensor]]:
    for rows in cut(outer.stop, first=outer.start):
        a = _single(x[rows])
        for columns in cut(inner.stop, first=inner.start):
            yield rows, columns, half_squares(a, _single(y[columns]), half)


def half_squares(u: Tensor, v: Tensor, half: bool = True) -> Tensor:
    r"""Return ``(|u|^2 - 2 u v) + |v|^2``, at least 0, as the evaluator of ADM does.

    In half precision every input, square, norm, product and sum is rounded to float16; sums over
    D are taken in float32. Rounding makes ties, and ties count as inside.
    """
    if half:
        u, v = u.half().float(), v.half().float()
    product = u @ v.T
    norms = [(w * w).half().float().sum(1) if half else (w * w).sum(1) for w in (u, v)]
    if half:  # the sum of two halves is exact in float32, so that it is rounded once
        product, *norms = product.half(), *(norm.half() for norm in norms)
    return (norms[0][:, None] - 2 * product + norms[1]).clamp_min_(0)
