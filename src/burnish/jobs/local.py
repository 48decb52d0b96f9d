"""Jobs in this process: files in, files out, one batch in memory at a time."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor
from tqdm import tqdm

from burnish.errors import InputError
from burnish.files import card_path, check_target, ledger_path, provenance, write_aside, write_json
from burnish.generators.base import Generator
from burnish.guide.model import Guide
from burnish.jobs.prefetch import ahead
from burnish.refine.labels import choose_labels
from burnish.refine.refiner import Ledger, Refiner, RefineSettings, check_fit
from burnish.refine.speed import batch_size_for
from burnish.samples import Samples
from burnish.storage.formats import open_samples, write_samples
from burnish.storage.sample_file import SampleFile

Batch = TypeVar("Batch", bound=Sized)

__all__ = ["check_refinable", "refine_file", "sample_file"]


def sample_file(
    generator: Generator,
    seeds: Sequence[int],
    out: Path,
    *,
    labels: Tensor | None = None,
    batch_size: int = 100,
) -> dict[str, Any]:
    """Sample one image per seed into a file and describe it in a JSON file beside it.

    Args:
        generator: Makes the images.
        seeds: One per image.
        out: ``.npz``, ``.parquet`` or a folder of PNG.
        labels: One per image, or None to draw them from the seeds.
        batch_size: Images per network call; it does not change them.

    Returns:
        What the JSON file says.
    """
    began = time.perf_counter()
    check_target(out)
    check_target(card_path(out))
    if batch_size < 1:
        raise InputError(f"a batch of {batch_size} images cannot be made; give 1 or more")
    batches = generator.batches(seeds, labels, batch_size)
    write_samples(out, _progress("sample", batches, len(seeds)), len(seeds))
    facts = {
        "generator": generator.card,
        "num_images": len(seeds),
        "seeds": _span(seeds),
        "num_steps": generator.num_steps,
        "nfe": generator.nfe,
        "seconds": time.perf_counter() - began,
        **provenance(),
    }
    write_json(card_path(out), facts)
    return facts


def check_refinable(file: SampleFile, guide: Guide, labeling: str) -> None:
    """Refuse samples that a guide cannot refine, before any work is done.

    Raises:
        InputError: They have no labels where they are to be given, or do not fit the guide.
    """
    if labeling == "given" and file.labels is None:
        raise InputError(f"{file.path} has no labels; refine it with --labels pseudo")
    check_fit(guide, next(iter(file)), file.labels if labeling == "given" else None)


def refine_file(
    source: Path,
    guide: Guide,
    settings: RefineSettings,
    out: Path,
    *,
    labeling: str = "given",
    batch_size: int | None = None,
    precision: str = "auto",
    compile: str = "auto",
) -> dict[str, Any]:
    """Refine a file of samples; writes the samples, their ledger and a JSON file that says how.

    Args:
        source: What to refine.
        guide: Climbed, on its device.
        settings: Resolved settings.
        out: ``.npz``, ``.parquet`` or a folder of PNG; labels, ids and names stay.
        labeling: ``given``, ``pseudo``, ``balanced`` or ``quotas``.
        batch_size: Images per network call, by default what fits and is fast; it changes
            nothing but the last bits.
        precision: ``float32`` or ``bfloat16`` inside the guide, or ``auto``.
        compile: ``auto``, ``always`` or ``never``, see :class:`~burnish.refine.refiner.Refiner`.

    Returns:
        What the JSON file says.

    Raises:
        InputError: The samples cannot be read, have no labels where they are needed, or do not fit
            the guide.
    """
    began = time.perf_counter()
    refiner = Refiner(guide, settings, precision, batch_size, compile)
    file = open_samples(source, 1 if batch_size is None else batch_size)
    check_target(out, source)
    if source.is_dir() and source.resolve() in out.resolve().parents:
        raise InputError(f"{out} lies in the folder that is refined; choose another place")
    ledger_file = ledger_path(out)
    for path in (ledger_file, card_path(out)):
        check_target(path, source, card_path(source), ledger_path(source))
    check_refinable(file, refiner.guide, labeling)
    if batch_size is None:
        file.batch_size = batch_size_for(refiner.guide.network, file.image_shape)
    labels = _labels(file, refiner.guide, labeling)
    totals = {"num_steps": 0, "real enough": 0}
    with write_aside(ledger_file) as aside, closing(_LedgerFile(aside)) as ledger:

        def refined() -> Iterator[Samples]:
            for part in _progress("refine", refiner(ahead(file), labels), len(file)):
                ledger.add(part.ledger)
                totals["num_steps"] += int(part.ledger.num_steps.sum())
                totals["real enough"] += part.ledger.stopped.count("real enough")
                yield part.samples

        # Closed here, whatever happens: the other thread must not add to a closed ledger.
        with closing(ahead(refined())) as parts:
            write_samples(out, parts, len(file), file.names)
    facts = {
        "input": str(source),
        "guide": guide.card,
        "settings": dataclasses.asdict(settings),
        "threshold": refiner.threshold,
        "labels": labeling,
        "precision": refiner.precision,
        "compiled": refiner.compiled,
        "batch_size": file.batch_size,
        "num_images": len(file),
        "mean_num_steps": totals["num_steps"] / len(file),
        "share_real_enough": totals["real enough"] / len(file),
        "seconds": time.perf_counter() - began,
        **provenance(),
    }
    write_json(card_path(out), facts)
    return facts


class _LedgerFile:
    """Ledgers in parquet; rows are gathered, as a row group for every batch would be a slow file.

    Args:
        path: The file to make.
        group: Rows to gather.
    """

    def __init__(self, path: Path, group: int = 10_000) -> None:
        self._path, self._group = path, group
        self._columns: dict[str, list[Any]] = {}
        self._writer: pq.ParquetWriter | None = None

    def add(self, ledger: Ledger) -> None:
        """Take the rows of one batch."""
        for name, values in ledger.columns().items():
            self._columns.setdefault(name, []).extend(values)
        if len(self._columns["id"]) >= self._group:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        if self._columns:
            self._flush()
        if self._writer:
            self._writer.close()

    def _flush(self) -> None:
        table = pa.table(self._columns)
        self._writer = self._writer or pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)
        self._columns = {}


def _labels(file: SampleFile, guide: Guide, labeling: str) -> Tensor | None:
    if labeling == "given":
        return file.labels
    device = next(guide.parameters()).device
    batches = _progress("label", file, len(file))
    return choose_labels(batches, lambda images: guide(images.to(device)), labeling)


def _progress(what: str, batches: Iterable[Batch], total: int) -> Iterator[Batch]:
    with tqdm(total=total, desc=what, unit="image", smoothing=0.1) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def _span(seeds: Sequence[int]) -> str:
    """Write seeds as the command line reads them, if they are one range."""
    first, last = seeds[0], seeds[-1]
    whole = list(seeds) == list(range(first, last + 1))
    return f"{first}-{last}" if whole else ",".join(map(str, seeds))
