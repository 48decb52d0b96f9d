"""A cache of the images of tables and of their scores."""

import functools
import hashlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from burnish.errors import InputError
from burnish.files import card_path, path_sha256, provenance, read_json, write_json
from burnish.guide.load import load_guide
from burnish.hub import Kind, shipped
from burnish.jobs.evaluate import plan_evaluate
from burnish.jobs.plan import resolve_device
from burnish.jobs.progress import progress
from burnish.jobs.refine import plan_refine
from burnish.jobs.sample import plan_sample
from burnish.metrics.features import FeatureExtractor, load_extractor
from burnish.metrics.reference import make_reference
from burnish.refinement.labels import choose_labels
from burnish.refinement.presets import settings_for
from burnish.refinement.settings import RefineSettings
from burnish.report.checks import EVALUATION, MADE, check_fields
from burnish.report.comparison import changes_of
from burnish.schema import plain
from burnish.storage.formats import open_samples, write_samples
from burnish.studies.baselines import apply_baseline
from burnish.studies.tables import Row


class Scorer(NamedTuple):
    """A feature extractor, the path of statistics of real images by it, and a hash of both."""

    extractor: FeatureExtractor
    reference: str
    key: str


class Cache:
    """Makes and scores the images of rows, each once, and keeps them in ``folder``.

    Images are kept under a hash of what they follow from: the files of generator and guide, the
    resolved settings and the seeds. A change of burnish itself is not noticed; delete the folder
    after one. ``precision`` is that of the guide; ``runs/`` at the start of a name stands for
    ``runs``.
    """

    def __init__(
        self, folder: Path, runs: Path, precision: str = "float32", device: str = "auto"
    ) -> None:
        self.folder, self.runs, self.precision = folder, runs, precision
        self.device = resolve_device(device)
        self._guide = functools.cache(lambda name: load_guide(self.path(name)).to(self.device))
        self._sha256 = functools.cache(self._hash_files)

    def path(self, name: str) -> str:
        """Return a name with its leading ``runs/`` replaced."""
        inside = name.removeprefix("runs/")
        return name if inside == name else str(self.runs / inside)

    def scorer(self, features: str, real: Path | None, source: str = "") -> Scorer:
        """Return the scorer of a feature extractor, given by name or file.

        Statistics of the real images, which results call ``source``, are computed if they are not
        here; without real images, those that ship with the extractor are taken.
        """
        name, known = self.path(features), shipped("reference")
        extractor = load_extractor(name, self.device)
        if real:
            path = self.folder / f"reference-{_digest(extractor.sha256 + path_sha256(real))}.npz"
            if not path.exists():
                file, source = open_samples(real), source or real.name
                batches, count = progress("reference", file, len(file)), len(file)
                make_reference(batches, extractor, source=source, num_images=count).save(path)
        elif name in known:
            path = known[name]
        else:
            raise InputError(f"no statistics ship with {features}; give real images")
        return Scorer(extractor, str(path), _digest(extractor.sha256 + path_sha256(path))[:8])

    def settings(self, row: Row) -> RefineSettings | None:
        """Return the resolved settings of a row's refinement, None if it has none."""
        if row.baseline or not row.guide:
            return None
        return settings_for(self._guide(row.guide), **{"preset": None, **row.refine})

    def images(self, row: Row, seeds: str) -> Path:
        """Return the file of a row's images, made now if it is not here."""
        path = self.folder / f"{self._key(row, seeds)}.npz"
        if path.exists() and card_path(path).exists():  # the card is written last
            return path
        if not (row.guide or row.baseline):
            generator, num_steps = self.path(row.generator), row.num_steps
            plan_sample(generator, seeds, path, num_steps=num_steps, device=self.device).run()
            return path
        source = self.images(row.unchanged(), seeds)
        if not row.baseline:
            plan_refine(
                source, self._guide(row.guide), path, settings=self.settings(row),
                labels=row.labels, precision=self.precision, device=self.device,
            ).run()  # fmt: skip
            return path
        began, file, classes = time.perf_counter(), open_samples(source), None
        if row.guide:
            guide = self._guide(row.guide)
            classes = choose_labels(file, lambda images: guide(images.to(self.device)), "pseudo")
        write_samples(path, apply_baseline(file, row.baseline, classes), len(file), file.names)
        card = {"baseline": plain(row.baseline), "seconds": time.perf_counter() - began}
        write_json(card_path(path), {**card, **provenance()})
        return path

    def score(self, row: Row, seeds: str, scorer: Scorer) -> dict[str, Any]:
        """Return the metrics of a row's images, and the time and NFE that making them took."""
        key = self._key(row, seeds)
        path = self.folder / f"{key}.{scorer.key}.json"
        card = card_path(self.folder / f"{key}.npz")
        if not (path.exists() and card.exists()):
            images, extractor = self.images(row, seeds), scorer.extractor
            plan_evaluate(images, scorer.reference, extractor, out=path, device=self.device).run()
        made, found = read_json(card), read_json(path)
        check_fields(made, MADE, str(card))
        check_fields(found, EVALUATION, str(path))
        if "fid" not in found or "seconds" not in made:
            raise InputError(f"{path} or {card.name} lacks what was measured; delete both")
        found.pop("generated", None)  # a path in this folder
        return {"seconds": made["seconds"], "nfe": made.get("mean_num_steps", 0.0), **found}

    def change(self, row: Row, seeds: str, scorer: Scorer) -> dict[str, float] | None:
        """Return how a row changes the FID of the same images, with its interval.

        None if the scores in the cache were made before scores had intervals.
        """
        keys = (self._key(one, seeds) for one in (row.unchanged(), row))
        paths = [self.folder / f"{key}.{scorer.key}.json" for key in keys]
        try:
            return changes_of(*paths).get("fid")
        except InputError:
            return None

    def _key(self, row: Row, seeds: str) -> str:
        """Return the hash that a row's images are kept under."""
        facts: dict[str, Any] = {"num_steps": row.num_steps, "seeds": seeds}
        facts["generator"] = self._sha256("generator", row.generator)
        if row.guide:
            facts["guide"] = self._sha256("guide", row.guide)
        if settings := self.settings(row):
            facts |= {"settings": plain(settings), "labels": row.labels}
            facts["precision"] = self.precision
        if row.baseline:
            facts["baseline"] = plain(row.baseline)
        return _digest(json.dumps(facts, sort_keys=True))

    def _hash_files(self, kind: Kind, name: str) -> str:
        """Return a hash of a model's files, or of its name if it is on a hub or in a library."""
        path = shipped(kind).get(self.path(name), Path(self.path(name)))
        return path_sha256(path) if path.exists() else _digest(name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
