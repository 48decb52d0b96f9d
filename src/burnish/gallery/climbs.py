"""The path of single images: the climb of a refinement done again, with every image on the way."""

import base64
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from burnish.errors import InputError
from burnish.gallery.commands import guide_source, refiner_source, settings_of_card
from burnish.gallery.sprites import EXACT, encode
from burnish.guide.load import load_guide
from burnish.refinement.batching import in_batches
from burnish.refinement.learned import guide_sha256, load_learned, make_refiner
from burnish.refinement.refiner import Refiner, check_fit
from burnish.report.pairs import Pairs
from burnish.samples import to_uint8

# Of the images on the way; larger ones are reduced.
MAX_SIDE = 256
# Every call of the guide has so many images. More than this would be a long wait for one.
MAX_BATCH = 64
MAX_STEPS = 1000


class Climbs:
    """Climbs again with the guide, settings, precision and batch size of the card.

    What a learned refiner made in one pass is passed through it again.

    Args:
        pairs: With the card of a refinement.
        guide: Its name or path; None to look for it among those that ship.

    Attributes:
        source: Under what name the guide is loaded; None if there is none.
        missing: Why there are no paths; empty if there are.

    Raises:
        InputError: The guide that was named is not that of the card.
    """

    def __init__(self, pairs: Pairs, guide: str | None = None) -> None:
        self._pairs, self.source = pairs, guide or guide_source(pairs.card)
        self._lock = threading.Lock()
        self._loaded: Refiner | None = None
        self._learned = self.missing = ""
        if not pairs.card.get("settings"):
            self.missing = "There is no card of a refinement beside the images."
        elif self.source is None:
            self.missing = "The guide does not ship with burnish; name it by --guide."
        else:
            try:
                self._learned = refiner_source(pairs, self.source)
                if settings_of_card(pairs.card).num_steps > MAX_STEPS and not self._learned:
                    self.missing = f"Paths of more than {MAX_STEPS:,} steps are not shown."
            except InputError as error:
                self.missing = str(error)
        if guide and not self.missing:
            self._refiner()

    def prepare(self) -> None:
        """Load what the paths need, and say in ``missing`` if they cannot be found."""
        if self.missing:
            return
        before, _ = self._pairs.read([0])
        with self._lock:
            try:
                check_fit(self._refiner().guide, before, self._pairs.labels)
            except InputError as error:
                self.missing = str(error)

    def __call__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return one path per row, as the page takes it.

        ``objective`` and ``realness`` are those of each image on the way, before rounding; ``l2``
        its distance from the image before; ``same`` whether the last, rounded, is the stored one,
        and ``levels`` by how much they differ at most.

        Raises:
            InputError: There is no path, see ``missing``.
        """
        if self.missing:
            raise InputError(self.missing)
        before, after = self._pairs.read(rows)
        with self._lock, torch.no_grad():
            refiner = self._refiner()
            labels = self._labels(refiner, before.images, rows)
            check_fit(refiner.guide, before, labels)
            path = [images.cpu() for images in refiner.path(before.images, labels, before.ids)]
            found = [
                in_batches(refiner.objective, refiner.batch_size, images, labels)
                for images in (image.to(refiner.device) for image in path)
            ]
        found = [tuple(values.cpu() for values in pair) for pair in found]
        return [
            self._path(
                torch.stack([images[i] for images in path]),
                [(float(objective[i]), float(realness[i])) for objective, realness in found],
                before.images[i],
                after.images[i],
            )
            for i in range(len(rows))
        ]

    def _path(
        self, images: Tensor, found: list[tuple[float, float]], before: Tensor, after: Tensor
    ) -> dict[str, Any]:
        # An image that has stopped stays where it is.
        moves = (images[1:] - images[:-1]).flatten(1).any(1).tolist()
        last = max((k for k, moved in enumerate(moves, 1) if moved), default=0)
        images, found = images[: last + 1], found[: last + 1]
        wanted, reached = (to_uint8(one).int() for one in (after, images[-1]))
        levels = int((reached - wanted).abs().max())
        sheet = np.concatenate([*_shown(images)], axis=1)
        kind = "image/png" if max(images.shape[2:]) <= EXACT else "image/jpeg"
        data = base64.b64encode(encode(sheet, kind)).decode()
        return {
            "objective": [_number(objective) for objective, _ in found],
            "realness": [_number(realness) for _, realness in found],
            "l2": [float((image - before).norm()) for image in images],
            "same": levels == 0,
            "levels": levels,
            "sprite": f"data:{kind};base64,{data}",
        }

    def _refiner(self) -> Refiner:
        if self._loaded is None:
            card = self._pairs.card
            assert self.source is not None
            guide = load_guide(self.source)
            named = card.get("guide")
            known = named.get("sha256") if isinstance(named, dict) else None
            known = known or card.get("guide_sha256")
            if known and guide_sha256(guide) != known:
                raise InputError(f"{self.source} is not the guide that refined these images")
            settings, learned = settings_of_card(card), None
            guide.objective(settings.objective)  # raises where there is none
            if settings.step_size is None:
                raise InputError("the card's settings name no step_size")
            if self._learned:
                channels = self._pairs.before.image_shape[0]
                learned = load_learned(self._learned, guide, self.source, channels)
            device = "cuda" if torch.cuda.is_available() else "cpu"
            precision = card.get("precision")
            self._loaded = make_refiner(
                guide.to(device),
                settings,
                learned,
                precision=precision if precision in ("float32", "bfloat16") else "float32",
                batch_size=_batch_size(card),
            )
        return self._loaded

    def _labels(self, refiner: Refiner, images: Tensor, rows: Sequence[int]) -> Tensor:
        known = self._pairs.labels
        if known is not None:
            return known[torch.tensor(list(rows))].to(refiner.device)
        return refiner.logits(images.to(refiner.device)).argmax(1)


def _batch_size(card: dict[str, Any]) -> int:
    size = card.get("batch_size")
    return min(size, MAX_BATCH) if isinstance(size, int) and size > 0 else 32


def _shown(images: Tensor) -> np.ndarray:
    """Return images as ``[K, H, W, C]`` uint8, reduced if they are large."""
    side = max(images.shape[2:])
    if side > MAX_SIDE:
        images = interpolate(
            images, scale_factor=MAX_SIDE / side, mode="bilinear", antialias=True
        ).clamp(0, 1)
    return to_uint8(images).permute(0, 2, 3, 1).numpy()


def _number(value: float) -> float | None:
    """Return a number that JSON has."""
    return value if np.isfinite(value) else None
