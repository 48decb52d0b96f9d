"""Refinement of batches of NumPy columns, as Ray Data gives them; Ray itself is not imported."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError, unknown
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.refinement.doubt import doubt
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.refinement.settings import LABELINGS, RefineSettings
from burnish.samples import Samples, from_uint8, to_uint8


class Refine:
    """Refines the images of each batch: the class for ``Dataset.map_batches`` of Ray Data.

    An image's result does not depend on its batch. It is that of :func:`burnish.refine`, rounded
    to uint8. Columns of a batch:

    * ``image``: uint8 ``[B, H, W, C]`` or gray ``[B, H, W]``; the result has the same form.
    * ``label``: ``[B]``, the class to refine each image towards; not needed with
      ``labels="pseudo"``.
    * ``id``: ``[B]`` whole numbers, needed only where the noise of SGLD depends on them.
    * Whatever else there is comes back as it is. ``realness_before`` and ``realness_after``,
      float32 ``[B]``, come in addition.

    Args:
        guide: A name, path or hub id, see :func:`burnish.load_guide`, or a guide.
        preset: As of :func:`burnish.refine`.
        settings: Resolved settings, in place of a preset and overrides.
        labels: ``given`` by the column, or ``pseudo``, the guide's opinion.
        image: Name of the column of images.
        precision: ``float32`` or ``bfloat16`` inside the guide.
        batch_size: Images per call of the guide, whatever the batches of the data set are; None
            for 32 on a CPU and 512 on a GPU.
        device: None for the GPU that the worker has, else the CPU.
        overrides: Fields of :class:`~burnish.refinement.settings.RefineSettings`.

    Raises:
        InputError: A setting is unknown or does not fit the guide; when called: a column is
            missing or has another form.
    """

    def __init__(
        self,
        guide: str | Path | Guide,
        *,
        preset: str | None = None,
        settings: RefineSettings | None = None,
        labels: str = "given",
        image: str = "image",
        precision: str = "float32",
        batch_size: int | None = None,
        device: str | None = None,
        **overrides: Any,
    ) -> None:
        if labels not in LABELINGS[:2]:
            # The others depend on all images.
            raise unknown("labeling", labels, LABELINGS[:2])
        if settings and (preset or overrides):
            raise InputError("give settings, or a preset with overrides, but not both")
        guide = guide if isinstance(guide, Guide) else load_guide(guide)
        guide = guide.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        settings = settings or settings_for(guide, preset, **overrides)
        self.refiner = Refiner(guide, settings, precision=precision, batch_size=batch_size)
        self.labels, self.image, self._seen = labels, image, False

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a batch with refined images and the two columns of realness."""
        given = self._images(batch)
        count = len(given)
        labels = self._labels(batch)
        samples = Samples(_pixels(given), None, self._ids(batch, count))
        if not self._seen and count:
            self._seen = True
            if doubts := doubt(self.refiner, samples, labels):
                warnings.warn(doubts, stacklevel=2)
        refined = list(self.refiner.pairs([(samples, labels)]))
        images = [to_uint8(one.samples.images).permute(0, 2, 3, 1).numpy() for one in refined]
        return {
            **batch,
            self.image: np.concatenate(images).reshape(given.shape) if refined else given,
            "realness_before": _column(one.ledger.realness_before for one in refined),
            "realness_after": _column(one.ledger.realness_after for one in refined),
        }

    def _images(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        images = batch.get(self.image)
        if images is None:
            known = ", ".join(sorted(batch))
            raise InputError(f'there is no column "{self.image}" among {known}; name it: image=')
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise InputError(
                f'column "{self.image}" must be uint8 [B, H, W, C] or [B, H, W], with images of '
                f"one size, not {images.dtype} {list(images.shape)}"
            )
        return images

    def _labels(self, batch: dict[str, np.ndarray]) -> Tensor | None:
        if self.labels == "pseudo":
            return None
        labels = batch.get("label")
        if labels is None or labels.dtype.kind not in "iu":
            raise InputError('there is no column "label" of whole numbers; or labels="pseudo"')
        return torch.from_numpy(labels.astype(np.int64))

    def _ids(self, batch: dict[str, np.ndarray], count: int) -> Tensor:
        if not self.refiner.settings.noise_std:
            return torch.zeros(count, dtype=torch.int64)  # nothing depends on them
        ids = batch.get("id")
        if ids is None or ids.dtype.kind not in "iu":
            raise InputError('the noise depends on a column "id" of whole numbers; add one')
        return torch.from_numpy(ids.astype(np.int64))


def _pixels(images: np.ndarray) -> Tensor:
    """Return ``[B, C, H, W]`` in [0, 1]."""
    found = torch.from_numpy(np.array(images))  # those of Ray cannot be written to
    found = found[..., None] if found.ndim == 3 else found
    return from_uint8(found.permute(0, 3, 1, 2).contiguous())


def _column(parts: Iterable[Tensor]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *(part.numpy() for part in parts)])
