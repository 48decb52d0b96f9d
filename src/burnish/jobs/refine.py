"""Plan to refine: a file of images to a file of better ones, a ledger and a card."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.files import card_path, check_target, ledger_path
from burnish.guide.model import Guide
from burnish.jobs.captions import captioned, load_worded
from burnish.jobs.options import IN_PYTHON, JobOptions, RefineOptions, split
from burnish.jobs.plan import resolve_device
from burnish.jobs.refine_plan import Opened, RefinePlan
from burnish.jobs.source import open_source, own_labels, samples_sha256
from burnish.jobs.targets import Found, check_out, checked, found_plan
from burnish.refinement.choice import Choice, choose_guide, several, spread
from burnish.refinement.doubt import doubt
from burnish.refinement.learned import (
    Learned,
    guide_sha256,
    learned_settings,
    load_learned,
    make_refiner,
)
from burnish.refinement.published import published_labels, size_note
from burnish.refinement.refiner import Refiner, check_fit
from burnish.refinement.settings import LABELINGS, RefineSettings
from burnish.refinement.speed import batch_size_for, choose_precision, pays_to_compile
from burnish.storage.remote import is_remote
from burnish.storage.sample_file import SampleFile

# What a killed job may lose, at most.
SHARD_SECONDS, LARGEST_SHARD = 30.0, 4000
# Of the gradient; a job of fewer is over before a shard could matter.
FEW_CALLS = 100


def plan_refine(
    samples: Path,
    guide: str | Path | Guide | Sequence[str],
    out: Path,
    *,
    settings: RefineSettings | None = None,
    job: JobOptions = IN_PYTHON,
    **options: Any,
) -> RefinePlan:
    """Plan to refine a file of images.

    Args:
        samples: See :func:`burnish.open_samples`.
        guide: A name or path, see :func:`burnish.load_guide`, or a loaded one; or several names or
            paths, in a list or with commas between them: then
            :func:`~burnish.refinement.choice.choose_guide` takes one.
        out: See :func:`burnish.write_samples`.
        settings: Resolved settings, in place of a preset and overrides.
        job: Who does the work, and what it may replace.
        options: Fields of :class:`~burnish.jobs.options.RefineOptions`, and of
            :class:`~burnish.refinement.settings.RefineSettings` what is to override the preset.

    Raises:
        InputError: Something is missing or does not fit together.
    """
    given, overrides = split(RefineOptions, options, RefineSettings)
    if settings and (given.preset or overrides):
        raise InputError("give settings, or a preset with overrides, but not both")
    device, labels = resolve_device(given.device), given.labels
    if "labels" not in options and not given.captions:
        labels = published_labels(given.preset) or labels
    choice = _choose(several(guide), samples, given, labels, device)
    if choice:
        guide = str(choice.source)
    guide = guide if isinstance(guide, str | Path | Guide) else str(guide)
    loaded = choice.guide if choice else load_worded(guide, given, labels)
    name = str(loaded.card.get("name", "guide") if loaded is guide else guide)
    source, guide = None if loaded is guide else name, loaded.to(device)
    file = captioned(open_source(samples, given, given.batch_size or 1), given.captions)
    if given.captions and not settings:
        overrides = {"objective": "logit", **overrides}
    own = labels if own_labels(labels) is not None else None
    labels = "given" if own else labels
    learned = None
    if given.refiner:
        learned = load_learned(given.refiner, guide, source, file.image_shape[0])
    settings = settings or learned_settings(learned, guide, given.preset, **overrides)
    _check_targets(Path(samples), out, given.flat, file.names)
    if labels == "given" and file.labels is None:
        raise InputError(f"{file.path} has no labels; refine it with --labels pseudo")
    check_fit(guide, next(iter(file)), file.labels if labels == "given" else None)
    found = found_plan(out, job)
    refiner = _refiner(guide, settings, learned, file, given, found)
    file.batch_size = refiner.batch_size
    some = file.read(spread(len(file)))
    doubts = doubt(refiner, some, some.labels if labels == "given" else None)
    if doubts and given.strict:
        raise InputError(doubts)
    doubts = "; ".join(filter(None, [size_note(given.preset, *file.image_shape[1:]), doubts]))
    shard_size = job.shard_size or found.shard_size
    asked = {
        "batch_size": given.batch_size, "shard_size": job.shard_size,
        "precision": given.precision != "auto", "compile": given.compile != "auto",
    }  # fmt: skip
    return checked(RefinePlan(
        out=out, input=str(samples), input_sha256=samples_sha256(samples, file),
        num_images=len(file),
        guide=name, guide_sha256=guide_sha256(guide), choice=(choice and choice.aucs) or None,
        refiner=given.refiner,
        refiner_sha256=learned and learned.sha256, labels=labels, own_labels=own,
        labels_sha256=_labels_sha256(file) if own or given.captions else None,
        prompts=given.prompts, captions=given.captions, template=given.template, tile=given.tile,
        padding=given.padding, flat=given.flat, settings=settings,
        threshold=refiner.threshold, precision=refiner.precision,
        compile=refiner.compile, batch_size=refiner.batch_size, device=device, doubt=doubts,
        shard_size=shard_size or _shard_size(refiner, file),
        chosen=frozenset(name for name, value in asked.items() if not value), job=job,
        opened=Opened(file, guide, refiner, learned),
    ))  # fmt: skip


def _choose(
    sources: Sequence[str], samples: Path, given: RefineOptions, labels: str, device: str
) -> Choice | None:
    """Return the guide that these images need, where there are several to choose from."""
    if not sources:
        return None
    if given.prompts or given.captions or given.refiner:
        raise InputError("prompts, captions and a learned refiner are for one guide; name one")
    file = open_source(samples, given, given.batch_size or 1)
    some = file.read(spread(len(file)))
    known = None if labels in LABELINGS[1:] else some.labels
    return choose_guide(sources, some, known, device)


def _refiner(
    guide: Guide, settings: RefineSettings, learned: Learned | None, file: SampleFile,
    given: RefineOptions, found: Found,
) -> Refiner:  # fmt: skip
    """Return what refines the file: as asked, as a job under way does, or as is fastest here."""
    refiner, shape = make_refiner(guide, settings, learned), file.image_shape
    size = given.batch_size or found.batch_size or batch_size_for(refiner.guide.network, shape)
    precision = found.precision if given.precision == "auto" else given.precision
    precision = precision or choose_precision(guide, shape, size)
    refiner = make_refiner(guide, settings, learned, precision=precision, batch_size=size)
    check_fit(refiner.guide, next(iter(file)), None)
    if learned:
        return refiner  # it takes no gradient that could be compiled
    if given.compile == "auto" and found.compile is not None:
        refiner.compile = found.compile
    else:
        refiner.compile = _compiles(refiner, file, given.compile)
    return refiner


def _labels_sha256(file: SampleFile) -> str:
    assert file.labels is not None
    return hashlib.sha256(file.labels.numpy().tobytes()).hexdigest()


def _check_targets(source: Path, out: Path, flat: bool, names: list[str] | None) -> None:
    check_out(out, source, flat=flat, names=names)
    if is_remote(out):
        return
    if source.is_dir() and source.resolve() in out.resolve().parents:
        raise InputError(f"{out} lies in the folder that is refined; choose another place")
    for path in (ledger_path(out), card_path(out)):
        check_target(path, source, card_path(source), ledger_path(source))


def _compiles(refiner: Refiner, file: SampleFile, mode: str) -> bool:
    batch = _full_batch(refiner, file)
    return pays_to_compile(refiner.objective, refiner.guide, *batch, _calls(refiner, file), mode)


def _shard_size(refiner: Refiner, file: SampleFile) -> int:
    """Return how many images take about half a minute: whole batches, 4,000 images at most."""
    size = refiner.batch_size
    most, num_calls = max(1, LARGEST_SHARD // size), _calls(refiner, file)
    if num_calls < FEW_CALLS:
        return size * most
    batch = _full_batch(refiner, file)
    refiner.gradient(refiner.objective, *batch)  # the first call prepares
    began = time.perf_counter()
    refiner.gradient(refiner.objective, *batch)[0].cpu()
    per_call = time.perf_counter() - began
    in_time = SHARD_SECONDS / (per_call * max(1, refiner.num_calls))
    return size * min(most, max(1, int(in_time)))


def _calls(refiner: Refiner, file: SampleFile) -> float:
    return len(file) * refiner.num_calls / refiner.batch_size


def _full_batch(refiner: Refiner, file: SampleFile) -> tuple[Tensor, Tensor]:
    images = torch.zeros(refiner.batch_size, *file.image_shape, device=refiner.device)
    return images, torch.zeros(len(images), dtype=torch.int64, device=refiner.device)
