"""Where the images of tables are made and scored, each once."""

import dataclasses
import hashlib
import json
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from burnish.errors import InputError, unknown
from burnish.files import card_path, path_sha256, provenance, write_json
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.hub import SHIPPED, shipped
from burnish.jobs.local import refine_file, sample_file
from burnish.jobs.scoring import evaluate_file, shown
from burnish.metrics import make_reference
from burnish.metrics.load import load_extractor
from burnish.refine.labels import choose_labels
from burnish.refine.settings import RefineSettings, settings_for
from burnish.seeds import parse_seeds
from burnish.storage import open_samples, write_samples
from burnish.studies.baselines import apply_control
from burnish.studies.summary import agreement, summary
from burnish.studies.tables import Row, Tables, expand

__all__ = ["Judge", "Workshop", "measure"]


class Judge(NamedTuple):
    """Who scores, against what, and a hash of both."""

    extractor: str
    reference: str
    key: str


class Workshop:
    """Makes and scores the images of rows; keeps all in a folder, and makes nothing twice.

    Images are kept under a hash of what they follow from: the files of generator and guide, the
    resolved settings and the seeds. A change of burnish itself is not seen; for that, delete the
    folder.

    Args:
        folder: For images, what was done to them, scores and statistics of real images.
        runs: What a leading ``runs/`` in names stands for.
        precision: Inside the guide.
        device: Where to compute.
    """

    def __init__(
        self, folder: Path, runs: Path, precision: str = "float32", device: str = "cpu"
    ) -> None:
        self.folder, self.runs, self.precision, self.device = folder, runs, precision, device
        folder.mkdir(parents=True, exist_ok=True)
        self._guide = cache(lambda source: load_guide(self.path(source)).to(device))
        self._fingerprint = cache(_fingerprint)

    def path(self, source: str) -> str:
        """Return a source with its leading ``runs/`` replaced."""
        inside = source.removeprefix("runs/")
        return source if inside == source else str(self.runs / inside)

    def judge(self, source: str, real: Path | None, words: str = "") -> Judge:
        """Return a judge; its statistics of the real images are made if they are not here.

        Args:
            source: Of the judge.
            real: Real images; None takes the statistics that ship with the judge.
            words: What results call the real images.

        Raises:
            InputError: There is no such judge, or no reference for it.
        """
        name, known = self.path(source), shipped("reference")
        extractor = load_extractor(name, self.device)
        if real is None:
            if name not in known:
                raise InputError(f"no statistics ship with {source}; give real images")
            path = known[name]
        else:
            key = f"{extractor.sha256[:8]}-{self._fingerprint(real)[:8]}"
            path = self.folder / f"reference-{key}.npz"
            if not path.exists():
                file = open_samples(real)
                words = words or real.name
                make_reference(shown(file), extractor, source=words, num_images=len(file)).save(
                    path
                )
        return Judge(name, str(path), _digest(extractor.sha256 + path_sha256(path))[:8])

    def settings(self, row: Row) -> RefineSettings | None:
        """Return the resolved settings of a row's refinement, None if it has none.

        Raises:
            InputError: The guide does not exist, or the settings do not go together.
        """
        if row.control or not row.guide:
            return None
        return settings_for(self._guide(row.guide), **{"preset": None, **row.refine})

    def key(self, row: Row, seeds: str) -> str:
        """Return the hash that a row's images are kept under."""
        facts: dict[str, Any] = {
            "generator": self._fingerprint(self.path(row.generator), "generator"),
            "num_steps": row.num_steps,
            "seeds": seeds,
        }
        if row.guide:
            facts["guide"] = self._fingerprint(self.path(row.guide), "guide.safetensors")
        if settings := self.settings(row):
            facts |= {"settings": dataclasses.asdict(settings), "labels": row.labels}
            facts["precision"] = self.precision
        if row.control:
            facts["control"] = dataclasses.asdict(row.control)
        return _digest(json.dumps(facts, sort_keys=True))[:16]

    def images(self, row: Row, seeds: str) -> Path:
        """Return the file of a row's images, made now if it is not here."""
        path = self.folder / f"{self.key(row, seeds)}.npz"
        if path.exists() and card_path(path).exists():  # the latter is written last
            return path
        if not (row.guide or row.control):
            generator = load_generator(self.path(row.generator), row.num_steps).to(self.device)
            sample_file(generator, parse_seeds(seeds), path)
            return path
        base = self.images(row.base(), seeds)
        if settings := self.settings(row):
            guide = self._guide(row.guide)
            refine_file(base, guide, settings, path, labeling=row.labels, precision=self.precision)
        else:
            self._control(row, base, path)
        return path

    def _control(self, row: Row, source: Path, out: Path) -> None:
        assert row.control is not None
        began, file, classes = time.perf_counter(), open_samples(source), None
        if row.guide:
            guide = self._guide(row.guide)
            classes = choose_labels(file, lambda images: guide(images.to(self.device)), "pseudo")
        write_samples(out, apply_control(file, row.control, classes), len(file), file.names)
        seconds = time.perf_counter() - began
        control = dataclasses.asdict(row.control)
        write_json(card_path(out), {"control": control, "seconds": seconds, **provenance()})

    def score(self, row: Row, seeds: str, judge: Judge) -> dict[str, Any]:
        """Return the metrics of a row's images, and what making them took of its base."""
        key = self.key(row, seeds)
        path, card = (
            self.folder / f"{key}.{judge.key}.json",
            card_path(self.folder / f"{key}.npz"),
        )
        if not (path.exists() and card.exists()):
            images = self.images(row, seeds)
            score = evaluate_file(images, judge.reference, judge.extractor, device=self.device)
            del score["generated"]
            write_json(path, score)
        facts = json.loads(card.read_text())
        costs = {"seconds": facts["seconds"], "guide_steps": facts.get("mean_num_steps", 0.0)}
        return {**costs, **json.loads(path.read_text())}


def measure(
    tables: Tables, name: str, workshop: Workshop, real: Path | None = None
) -> dict[str, Any]:
    """Measure a table: every row on every range of seeds by every judge.

    Args:
        tables: Where it is described.
        name: Of the table.
        workshop: Makes what is not made yet.
        real: Real images; None takes the statistics that ship with the judges.

    Returns:
        A dict for JSON: ``rows`` with resolved settings, ``summary``, ``rank_correlation``, and
        the single ``results``, each with the ``fid_base`` of the same images as they are.

    Raises:
        InputError: There is no such table, or a model, setting or reference is missing.
    """
    if name not in tables.tables:
        raise unknown("table", name, tables.tables)
    table = tables.tables[name]
    rows, described = expand(table.rows), {}
    # What is missing shows before any work is done.
    for source, num_steps in {(row.generator, row.num_steps) for row in rows.values()}:
        load_generator(workshop.path(source), num_steps)
    for label, row in rows.items():
        settings = workshop.settings(row)
        resolved = None if settings is None else dataclasses.asdict(settings)
        described[label] = {**dataclasses.asdict(row), "settings": resolved}
    judges = {
        judge: workshop.judge(source, real, tables.reference)
        for judge, source in tables.judges.items()
    }
    results: list[dict[str, Any]] = []
    with tqdm(total=len(tables.seeds) * len(rows), desc=name, unit="row") as bar:
        for seeds, (label, row) in product(tables.seeds, rows.items()):
            bar.set_postfix_str(f"{seeds}: {label}")
            for judge, who in judges.items():
                base = workshop.score(row.base(), seeds, who)["fid"]
                place = {"row": label, "seeds": seeds, "judge": judge}
                results.append({**place, "fid_base": base, **workshop.score(row, seeds, who)})
            bar.update()
    return {
        "data": tables.data,
        "table": name,
        "place": list(tables.tables).index(name),
        "title": table.title or name,
        "note": table.note,
        "precision": workshop.precision,
        "rows": described,
        "summary": summary(results),
        "rank_correlation": agreement(results),
        "results": results,
        **provenance(),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(source: str | Path, shipped: str = "") -> str:
    """Return a hash of the files of a model; of its name alone if it is neither here nor ours."""
    path = SHIPPED / source / shipped if shipped else Path(source)
    path = path if path.exists() else Path(source)
    return path_sha256(path) if path.exists() else _digest(str(source))
