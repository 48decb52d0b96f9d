"""Progress bars, and seeds as text."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TypeVar

from burnish.progress import bar

Batch = TypeVar("Batch", bound=Sized)


def progress(what: str, batches: Iterable[Batch], total: int) -> Iterator[Batch]:
    """Yield batches and show how many of ``total`` images are done."""
    with bar(None, what, total, unit="image", smoothing=0.1) as shown:
        for batch in batches:
            yield batch
            shown.update(len(batch))


def span(seeds: Sequence[int]) -> str:
    """Write seeds as the command line reads them: ``0-999``, or all of them, with commas."""
    first, last = seeds[0], seeds[-1]
    whole = list(seeds) == list(range(first, last + 1))
    return f"{first}-{last}" if whole else ",".join(map(str, seeds))
