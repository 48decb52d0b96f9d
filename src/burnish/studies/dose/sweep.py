"""The work of :mod:`burnish.studies.dose.tune`: refine images by many settings, and score all."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.metrics.features import FeatureExtractor
from burnish.progress import bar
from burnish.refinement.labels import choose_labels
from burnish.refinement.learned import Learned, make_refiner
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner, check_fit
from burnish.refinement.speed import batch_size_for, choose_precision
from burnish.samples import to_uint8
from burnish.studies.controls.score import predict, score
from burnish.studies.dose.drawn import Drawn
from burnish.studies.dose.scorer import Scorer, Seen, look
from burnish.studies.dose.tune import PRESET

NUM_TIMED, BATCH_SIZE = 16, 100


class Sweep:
    """Rows of scores of the same images by many settings.

    Args:
        guide: On its device.
        extractors: What scores.
        samples: Some of the images that will be refined.
        tried: The settings that will be tried; each is checked here.
        labels: given, pseudo, balanced or quotas.
        precision: Inside the guide: float32, bfloat16, or auto for what is faster here.
        learned: What refines where settings name a ``refiner``.
    """

    def __init__(
        self, guide: Guide, extractors: Sequence[FeatureExtractor], samples: Drawn,
        tried: Sequence[Mapping[str, Any]], labels: str = "given", precision: str = "auto",
        learned: Learned | None = None,
    ) -> None:  # fmt: skip
        if labels == "given" and samples.labels is None:
            raise InputError(f"{samples.source} has no labels; tune with --labels pseudo")
        shape = samples.images_uint8.shape[1:]
        some = next(samples.batches(BATCH_SIZE))
        check_fit(guide, some, samples.labels if labels == "given" else None)
        self._guide, self._learned, self.precision = guide, learned, "float32"
        self.batch_size = BATCH_SIZE
        for settings in tried:
            self.refiner(settings)
        self.batch_size = batch_size_for(guide.network, shape)
        if precision == "auto":
            precision = choose_precision(guide, shape, self.batch_size)
        self.precision, self._labels = precision, labels
        self._extractors, self._tried = extractors, tried
        self._scorers: dict[str, Scorer] = {}

    def refiner(self, settings: Mapping[str, Any]) -> Refiner:
        """Return the refiner of some settings."""
        fields = {name: value for name, value in settings.items() if name != "refiner"}
        return make_refiner(
            self._guide, settings_for(self._guide, PRESET, **fields),
            self._learned if "refiner" in settings else None, precision=self.precision,
            batch_size=self.batch_size,
        )  # fmt: skip

    def bar(self, images: Drawn, reference: Drawn) -> Any:
        """Say how long it will take, from a few images, and return the progress bar."""
        few, middle = images[:NUM_TIMED], self._tried[len(self._tried) // 2]
        began = time.perf_counter()
        look([few.images_uint8], self._extractors)
        scored = time.perf_counter()
        batch = images[: self.batch_size]
        for _ in self._refined(self.refiner(middle), batch, self._targets(batch)):
            pass
        refined = (time.perf_counter() - scored) / len(batch)
        num_tried = len(self._tried) + 1  # and the choice, on other images
        num_scored = len(reference) + len(images) * (num_tried + 2)
        seconds = num_scored * (scored - began) / len(few) + len(images) * num_tried * refined
        names = ", ".join(extractor.name for extractor in self._extractors)
        what = f"{num_tried - 1} settings on {len(images)} images, the choice on as many others"
        minutes = max(1, round(seconds / 60))
        print(f"{what}; {names}: about {minutes} min", file=sys.stderr)
        self._bar = bar(None, "tune", num_scored, unit="image", smoothing=0.1)
        return self._bar

    def measure_reference(self, reference: Drawn) -> None:
        """Extract the features of real images."""
        batches = reference.images_uint8.split(BATCH_SIZE)
        self._real = self._look(batches)
        self._scorers = {name: Scorer(rows) for name, rows in self._real.features.items()}

    def rows(self, images: Drawn, tried: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the scores of images as they are and by each setting."""
        first = self._look(images.images_uint8.split(BATCH_SIZE))
        before = self._scores(first)
        scores: dict[str, Any] = {name: found.values for name, found in before.items()}
        rows: list[dict[str, Any]] = [{"settings": None, "nfe": 0.0, "scores": scores}]
        targets = self._targets(images)
        for settings in tried:
            steps: list[int] = []
            made = [*self._refined(self.refiner(settings), images, targets, steps)]
            self._kept = {"baseline": first, "refined": self._look(made)}
            self._made = torch.cat(made)
            after = self._scores(self._kept["refined"])
            scores = {name: found.since(before[name]) for name, found in after.items()}
            nfe = sum(steps) / len(images)
            rows.append({"settings": dict(settings), "nfe": nfe, "scores": scores})
        return rows

    def controls(self, images: Drawn, real: Drawn) -> dict[str, Any]:
        """Return what part of the gain of the last setting tried cheap controls explain.

        Args:
            images: Those that :meth:`rows` was last called with.
            real: Those of :meth:`measure_reference`.
        """
        realness = predict(self._guide, replace(images, labels=self._targets(images)))
        return score(
            {"baseline": images.images_uint8, "refined": self._made}, real.images_uint8,
            self._extractors, realness=realness, paired=("refined",),
            seen={**self._kept, "real": self._real},
        )  # fmt: skip

    def _look(self, batches: Any) -> Seen:
        return look(batches, self._extractors, self._bar.update)

    def _scores(self, seen: Seen) -> dict[str, Any]:
        return {name: self._scorers[name](rows) for name, rows in seen.features.items()}

    def _refined(
        self, refiner: Refiner, images: Drawn, targets: Tensor, steps: list[int] | None = None
    ) -> Iterator[Tensor]:
        for part in refiner(images.batches(self.batch_size), targets):
            if steps is not None:
                steps += part.ledger.num_steps.tolist()
            yield to_uint8(part.samples.images)

    def _targets(self, images: Drawn) -> Tensor:
        if self._labels == "given":
            assert images.labels is not None
            return images.labels
        logits = self.refiner(self._tried[0]).logits
        return choose_labels(images.batches(BATCH_SIZE), logits, self._labels)
