"""A file of images, refined: the plan, how its shards are made, and how they are joined."""

import dataclasses
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from burnish.files import card_path, ledger_path, provenance, write_json
from burnish.guide.model import Guide
from burnish.jobs.job import Job, Shard
from burnish.jobs.ledger_file import LedgerFile, join_ledgers
from burnish.jobs.locks import FINISH
from burnish.jobs.parts import IMAGES, joined
from burnish.jobs.plan import Plan, Tick
from burnish.jobs.prefetch import prefetch
from burnish.jobs.progress import progress
from burnish.refinement.labels import choose_labels
from burnish.refinement.learned import Learned, make_refiner
from burnish.refinement.ledger import KEPT, Refined
from burnish.refinement.refiner import Refiner
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples
from burnish.storage.formats import write_samples
from burnish.storage.sample_file import SampleFile

LEDGER, LABELS = "ledger.parquet", "labels.npy"


class Opened(NamedTuple):
    """What a plan has opened."""

    file: SampleFile
    guide: Guide
    refiner: Refiner
    learned: Learned | None


@dataclass(frozen=True, kw_only=True)
class RefinePlan(Plan):
    """Every image of a file, refined."""

    kind: ClassVar[str] = "refine"

    input: str
    input_sha256: str
    guide: str
    guide_sha256: str
    choice: dict[str, float] | None
    """Where several guides were given: how well each tells the images from real ones, as AUC."""
    refiner: str | None
    """What makes the steps in one pass, if anything does."""
    refiner_sha256: str | None
    labels: str
    """Where the classes come from: given, pseudo, balanced or quotas."""
    own_labels: str | None
    """A class for all, or a file of classes, in place of those of the input."""
    labels_sha256: str | None
    prompts: Path | None
    """The texts of classes, where the guide is one from text."""
    captions: Path | None
    """The texts of images, in place of labels."""
    template: str | None
    tile: int | None
    """Side of the tiles, where the input is a grid of them."""
    padding: int
    flat: bool
    """Whether a folder is written without sub-folders."""
    settings: RefineSettings
    threshold: float | None
    """Realness at which an image stops."""
    precision: str
    compile: bool
    doubt: str
    """Why refining may do harm, from the first images; empty if nothing speaks against it."""
    opened: Opened = field(repr=False, compare=False)

    def adopt(self, found: Mapping[str, Any], where: object) -> Self:
        """Return this plan with what a job that is under way has chosen; see :class:`Plan`."""
        plan = super().adopt(found, where)
        if plan is not self:
            file, guide, _, learned = plan.opened
            refiner = make_refiner(
                guide, plan.settings, learned, precision=plan.precision,
                batch_size=plan.batch_size, compile=plan.compile,
            )  # fmt: skip
            file.batch_size = plan.batch_size
            plan = dataclasses.replace(plan, opened=Opened(file, guide, refiner, learned))
        return plan

    def make(self, shards: Iterable[Shard], job: Job, tick: Tick) -> Iterator[Shard]:
        """Refine shards as one stream, so that no image waits for the last one of a shard."""
        file, _, refiner, _ = self.opened
        labels = self._labels(job)
        begun = deque[Shard]()

        def read() -> Iterator[tuple[Samples, Tensor | None]]:
            for shard in shards:
                begun.append(shard)
                place = shard.start
                for batch in file.rows(shard.start, shard.stop):
                    here = slice(place, place + len(batch))
                    yield batch, None if labels is None else labels[here]
                    place += len(batch)

        # Reading goes on in one thread, refining in another, and writing in this one.
        with closing(prefetch(read())) as pairs, closing(prefetch(refiner.pairs(pairs))) as parts:
            last = time.perf_counter()
            for part in parts:
                shard = begun.popleft()
                with job.writing(shard) as (folder, record):
                    record |= _write(folder, chain([part], parts), shard.num_images, tick)
                    record["seconds"] = -last + (last := time.perf_counter())
                yield shard

    def finish(self, job: Job, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Write the images, their ledger and their card."""
        file, guide, *_ = self.opened
        out = job.result / self.out.name
        write_samples(
            out, joined(self, job), self.num_images, file.names, classes=file.classes,
            flat=self.flat,
        )  # fmt: skip
        ledgers = [job.folder / shard.name / LEDGER for shard in self.shards()]
        join_ledgers(ledger_path(out), ledgers)
        total = Counter[str]()
        for record in records:
            total.update(record["counts"])
        card = {
            **self.for_card(),
            "guide": guide.card,
            "mean_num_steps": total["steps"] / self.num_images,
            "share_real_enough": total["real enough"] / self.num_images,
            "num_worse": total["worse"],
            "num_kept": total[KEPT],
            "seconds": sum(record["seconds"] for record in records),
            "sha256": self.hashes(job.result),
            **provenance(),
        }
        write_json(card_path(out), card)
        return card

    def _labels(self, job: Job) -> Tensor | None:
        """Return the class of each image; None where the guide chooses them one by one."""
        file, _, refiner, _ = self.opened
        if self.labels in ("given", "pseudo"):
            return file.labels if self.labels == "given" else None
        # They depend on all images: one process chooses them, and the job keeps them.
        whole = Shard(FINISH + 1, 0, len(file), "labels-")
        job.lock(whole.number, wait=True)
        if job.record(whole) is None:
            batches = progress("label", file, len(file))
            chosen = choose_labels(batches, refiner.logits, self.labels)
            with job.writing(whole) as (folder, _):
                np.save(folder / LABELS, chosen.numpy())
        job.unlock(whole.number)
        return torch.from_numpy(np.load(job.folder / whole.name / LABELS))


def _write(
    folder: Path, parts: Iterator[Refined], num_images: int, tick: Tick
) -> dict[str, dict[str, int]]:
    """Write the images and the ledger of a shard; return what is counted."""
    counts = Counter[str]()

    def samples() -> Iterator[Samples]:
        left = num_images
        while left:
            part = next(parts)
            ledger.add(part.ledger)
            counts.update(part.ledger.stopped)
            counts["steps"] += int(part.ledger.num_steps.sum())
            counts["worse"] += int(part.ledger.worse.sum())
            left -= len(part)
            tick(len(part))
            yield part.samples

    with closing(LedgerFile(folder / LEDGER)) as ledger:
        write_samples(folder / IMAGES, samples(), num_images)
    return {"counts": dict(counts)}
