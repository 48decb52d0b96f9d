"""Random choices as other tools make them: from the same generators, in the same order."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from burnish.metrics.protocol import Draws, Protocol

Rows = NDArray[np.int64]


class Stream:
    """Choices of rows, one after the other from one generator.

    Args:
        draws: Which generator; ``stored`` leaves rows in their order.
        seed: Its seed.
    """

    def __init__(self, draws: Draws, seed: int) -> None:
        self._choose = _numpy(seed) if draws == "numpy" else None
        self._permute = _PERMUTED[draws](seed)

    def permutation(self, count: int) -> Rows:
        """Return all rows in random order."""
        return self._permute(count)

    def choice(self, count: int, size: int) -> Rows:
        """Return so many different rows."""
        return self._choose(count, size) if self._choose else self._permute(count)[:size]


def _numpy(seed: int) -> Callable[[int, int], Rows]:
    rng = np.random.default_rng(seed)
    return lambda count, size: rng.choice(count, size, replace=False)


def _torch(seed: int) -> Callable[[int], Rows]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    return lambda count: torch.randperm(count, generator=generator).numpy()


_PERMUTED: dict[Draws, Callable[[int], Callable[[int], Rows]]] = {
    "numpy": lambda seed: np.random.default_rng(seed).permutation,
    # choice without replacement of this one is the beginning of its permutation.
    "numpy-legacy": lambda seed: np.random.RandomState(seed % 2**32).permutation,
    "torch": _torch,
    "stored": lambda _: np.arange,
}


def kept(protocol: Protocol, count: int, seed: int) -> Rows | slice:
    """Return which of a number of generated images a protocol looks at, in their order.

    EDM shuffles ``arange`` by ``RandomState``, takes the first and sorts them; TTUR leaves out
    what does not fill a batch, unless there is less than one batch.
    """
    limit = protocol.max_images
    if limit is not None and count > limit:
        rows = np.arange(count)
        np.random.RandomState(seed % 2**31).shuffle(rows)
        return np.sort(rows[:limit])
    return slice(whole(protocol, count))


def whole(protocol: Protocol, count: int) -> int:
    """Return how many images fill whole batches of a protocol; all if they fill none."""
    return count // protocol.whole_batches * protocol.whole_batches or count
