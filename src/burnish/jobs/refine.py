"""The job of refining: a file of images to a file of better ones, a ledger and a card."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.files import (
    card_path,
    check_target,
    ledger_path,
    path_sha256,
    provenance,
    write_aside,
    write_json,
)
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.jobs.ledger_file import LedgerFile
from burnish.jobs.options import RefineOptions
from burnish.jobs.plan import Plan, resolve_device
from burnish.jobs.prefetch import prefetch
from burnish.jobs.progress import progress
from burnish.refinement.doubt import doubt
from burnish.refinement.labels import choose_labels
from burnish.refinement.ledger import KEPT
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner, check_fit
from burnish.refinement.settings import RefineSettings
from burnish.refinement.speed import batch_size_for, choose_precision, pays_to_compile
from burnish.samples import Samples
from burnish.schema import split
from burnish.storage.formats import check_output, open_samples, write_samples
from burnish.storage.sample_file import SampleFile


class Opened(NamedTuple):
    """What a plan has opened."""

    file: SampleFile
    refiner: Refiner
    card: dict[str, Any]


@dataclass(frozen=True)
class RefinePlan(Plan):
    """Every image of a file, refined."""

    out: Path
    input: str
    input_sha256: str
    num_images: int
    guide: str
    guide_sha256: str | None
    labels: str
    """Where the classes come from: given, pseudo, balanced or quotas."""
    settings: RefineSettings
    threshold: float | None
    """Realness at which an image stops."""
    precision: str
    compile: bool
    batch_size: int
    """Images per call of the guide; part of what the bytes depend on."""
    device: str
    doubt: str
    """Why refining may do harm, from the first images; empty if nothing speaks against it."""
    opened: Opened = field(repr=False, compare=False)

    def run(self) -> dict[str, Any]:
        """Refine, and write the images, their ledger and their card."""
        began = time.perf_counter()
        file, refiner, guide = self.opened
        labels = self._labels()
        num_steps, num_worse, stopped = 0, 0, Counter[str]()
        aside_of = write_aside(ledger_path(self.out))
        with aside_of as aside, closing(LedgerFile(aside)) as ledger:

            def refined() -> Iterator[Samples]:
                nonlocal num_steps, num_worse
                for part in progress("refine", refiner(prefetch(file), labels), len(file)):
                    ledger.add(part.ledger)
                    num_steps += int(part.ledger.num_steps.sum())
                    num_worse += int(part.ledger.worse.sum())
                    stopped.update(part.ledger.stopped)
                    yield part.samples

            # Closed before the ledger, whatever happens: the other thread must not add to it then.
            with closing(prefetch(refined())) as parts:
                write_samples(self.out, parts, len(file), file.names)
        card = {
            **{k: v for k, v in self.describe().items() if k not in ("out", "guide_sha256")},
            "guide": guide,
            "mean_num_steps": num_steps / len(file),
            "share_real_enough": stopped["real enough"] / len(file),
            "num_worse": num_worse,
            "num_kept": stopped[KEPT],
            "seconds": time.perf_counter() - began,
            **provenance(),
        }
        write_json(card_path(self.out), card)
        return card

    def _labels(self) -> Tensor | None:
        file, refiner, _ = self.opened
        if self.labels == "given":
            return file.labels
        batches = progress("label", file, len(file))
        return choose_labels(batches, lambda part: refiner.logits(part), self.labels)


def plan_refine(
    samples: Path,
    guide: str | Path | Guide,
    out: Path,
    *,
    settings: RefineSettings | None = None,
    **options: Any,
) -> RefinePlan:
    """Plan to refine a file of images.

    Args:
        samples: ``.npz``, ``.parquet`` or a folder of images.
        guide: A name or path, see :func:`burnish.load_guide`, or a loaded one.
        out: ``.npz``, ``.parquet``, or a folder of PNG without suffix.
        settings: Resolved settings, in place of a preset and overrides.
        options: Fields of :class:`~burnish.jobs.options.RefineOptions`, and of
            :class:`~burnish.refinement.settings.RefineSettings` what is to override the preset.

    Raises:
        InputError: Something is missing or does not fit together.
    """
    given, overrides = split(RefineOptions, options, RefineSettings)
    if settings and (given.preset or overrides):
        raise InputError("give settings, or a preset with overrides, but not both")
    device, labels = resolve_device(given.device), given.labels
    loaded = guide if isinstance(guide, Guide) else load_guide(guide)
    name = str(loaded.card.get("name", "guide") if loaded is guide else guide)
    guide = loaded.to(device)
    settings = settings or settings_for(guide, given.preset, **overrides)
    file = open_samples(samples, given.batch_size or 1)
    _check_targets(Path(samples), out)
    refiner = Refiner(guide, settings)
    if labels == "given" and file.labels is None:
        raise InputError(f"{file.path} has no labels; refine it with --labels pseudo")
    check_fit(refiner.guide, next(iter(file)), file.labels if labels == "given" else None)
    batch_size = given.batch_size or batch_size_for(refiner.guide.network, file.image_shape)
    refiner.batch_size = file.batch_size = batch_size
    precision = given.precision
    if precision == "auto":
        precision = choose_precision(guide, file.image_shape, batch_size)
    if precision != refiner.precision:
        refiner = Refiner(guide, settings, precision=precision, batch_size=batch_size)
        check_fit(refiner.guide, next(iter(file)), None)
    refiner.compile = _compiles(refiner, file, given.compile)
    some = next(iter(open_samples(samples, 256)))
    doubts = doubt(refiner, some, some.labels if labels == "given" else None)
    if doubts and given.strict:
        raise InputError(doubts)
    return RefinePlan(
        out, str(samples), path_sha256(Path(samples)), len(file), name, guide.card.get("sha256"),
        labels, settings, refiner.threshold, precision, refiner.compile, batch_size, device,
        doubts, Opened(file, refiner, guide.card),
    )  # fmt: skip


def _check_targets(source: Path, out: Path) -> None:
    check_output(out, source)
    if source.is_dir() and source.resolve() in out.resolve().parents:
        raise InputError(f"{out} lies in the folder that is refined; choose another place")
    for path in (ledger_path(out), card_path(out)):
        check_target(path, source, card_path(source), ledger_path(source))


def _compiles(refiner: Refiner, file: SampleFile, mode: str) -> bool:
    num_calls = len(file) * refiner.settings.num_steps / refiner.batch_size
    images = torch.zeros(refiner.batch_size, *file.image_shape, device=refiner.device)
    labels = torch.zeros(refiner.batch_size, dtype=torch.int64, device=refiner.device)
    return pays_to_compile(refiner.objective, refiner.guide, images, labels, num_calls, mode)
