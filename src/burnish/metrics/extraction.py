"""From images to what an extractor makes of them, as arrays with ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from burnish.errors import InputError
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.moments import Array
from burnish.samples import Samples, to_uint8

if TYPE_CHECKING:
    from burnish.metrics.reference import Reference


class Extracted(NamedTuple):
    """What an extractor makes of a batch, row by row."""

    ids: NDArray[np.int64]
    features: Array
    probabilities: Array | None
    spatial: Array | None
    labels: NDArray[np.int64] | None = None


def extract(
    samples: Iterable[Samples],
    extractor: FeatureExtractor,
    reference: Reference | None = None,
    *,
    spatial: bool = False,
) -> Iterator[Extracted]:
    """Yield what an extractor makes of each batch; spatial features only if they are wanted.

    Raises:
        InputError: Features are NaN or infinite, or not of the size of the reference's.
    """
    for batch in filter(len, samples):
        if reference is not None:  # one image shows it, before the many are looked at
            first = extractor(to_uint8(batch.images[:1])).features
            reference.check_size(first.shape[1], extractor.name)
            reference = None
        found = extractor(to_uint8(batch.images))
        if not bool(found.features.isfinite().all()):
            raise InputError(f"{extractor.name!r} gave NaN or infinite features")
        rest = (found.probabilities, found.spatial if spatial else None)
        yield Extracted(
            batch.ids.cpu().numpy(), found.features.cpu().numpy(),
            *(None if one is None else one.cpu().numpy() for one in (*rest, batch.labels)),
        )  # fmt: skip


def joined(parts: Sequence[Extracted], by_id: bool = False) -> Extracted:
    """Return all rows of one or more parts, in their order or in that of the ids."""
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(ids, kind="stable") if by_id else slice(None)
    return Extracted(
        ids[order], np.concatenate([part.features for part in parts])[order],
        _rows([part.probabilities for part in parts], order),
        _rows([part.spatial for part in parts], order),
        _rows([part.labels for part in parts], order),
    )  # fmt: skip


def _rows(parts: Sequence[NDArray[Any] | None], order: NDArray[np.int64] | slice) -> Any:
    known = [part for part in parts if part is not None]
    return np.concatenate(known)[order] if len(known) == len(parts) else None
