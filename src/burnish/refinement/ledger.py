"""What was done to each image."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from burnish.refinement.batching import Batch
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples

# Why an image stopped that is handed back unchanged.
KEPT = "kept as it was"


@dataclass(frozen=True)
class Ledger:
    """One row per image of a batch, as it is handed on; all ``[B]``."""

    ids: Tensor
    labels: Tensor
    objective_before: Tensor
    objective_after: Tensor
    realness_before: Tensor
    realness_after: Tensor
    l2_moved: Tensor
    linf_moved: Tensor
    num_steps: Tensor
    worse: Tensor
    """Whether it looks less real than before. Where the guide does not know how real images look,
    or the objective is the cross-entropy, which does not ask: whether the objective fell."""
    stopped: tuple[str, ...]
    """Why: ``real enough``, ``no gradient``, ``all steps made`` or ``no steps asked``; ``one
    pass`` of a learned refiner; ``kept as it was``, where ``keep_better`` took the steps back."""

    def columns(self) -> dict[str, list[Any]]:
        """Return plain columns; ``ids`` are called ``id`` and ``labels`` ``label``."""
        columns: dict[str, list[Any]] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            name = {"ids": "id", "labels": "label"}.get(field.name, field.name)
            columns[name] = value.tolist() if isinstance(value, Tensor) else list(value)
        return columns


@dataclass(frozen=True)
class Refined:
    """Refined samples with their ledger."""

    samples: Samples
    ledger: Ledger

    def __len__(self) -> int:
        return len(self.samples)


def settle(
    batch: Batch, after: tuple[Tensor, ...], settings: RefineSettings, reason: str = "", *,
    by_realness: bool,
) -> Refined:  # fmt: skip
    """Return the refined samples with their ledger; take back what ``keep_better`` says.

    Args:
        batch: Finished.
        after: Objective and realness of the final images, each ``[B]``.
        settings: Of the refinement.
        reason: Why all images stopped; empty where the steps say.
        by_realness: Realness says what got worse; else the objective does.
    """
    before = batch.objective_before, batch.realness_before
    moved = (batch.images - batch.samples.images).flatten(1)
    # An image that did not move is not worse, however two passes of the guide round.
    worse = (after[by_realness] < before[by_realness]) & moved.any(1)
    stopped = (reason,) * len(moved) if reason else stop_reasons(settings, batch.num_steps, moved)
    if settings.keep_better:
        batch.images[worse] = batch.samples.images[worse]
        after = after[0].where(~worse, before[0]), after[1].where(~worse, before[1])
        moved = moved.where(~worse[:, None], 0)
        pairs = zip(worse.tolist(), stopped, strict=True)
        stopped = tuple(KEPT if kept else reason for kept, reason in pairs)
        worse = worse.new_zeros(len(worse))
    ledger = Ledger(
        batch.samples.ids.cpu(),
        batch.labels.cpu(),
        before[0].cpu(),
        after[0].cpu(),
        before[1].cpu(),
        after[1].cpu(),
        moved.norm(dim=1).cpu(),
        moved.abs().amax(1).cpu(),
        batch.num_steps,
        worse.cpu(),
        stopped,
    )
    return Refined(batch.samples.with_images(batch.images).to("cpu"), ledger)


def stop_reasons(settings: RefineSettings, num_steps: Tensor, moved: Tensor) -> tuple[str, ...]:
    """Return why each image stopped.

    Args:
        settings: Of the refinement.
        num_steps: ``[B]``, steps made.
        moved: ``[B, D]``, refined minus original values.
    """
    if settings.num_steps == 0 or settings.eps == 0:
        return ("no steps asked",) * len(num_steps)
    stuck = (moved == 0).all(1) & (settings.step_size != 0)
    reasons = ["no gradient" if still else "all steps made" for still in stuck.tolist()]
    # Only the stop rule makes fewer steps than were asked for.
    return tuple(
        "real enough" if steps < settings.num_steps else reason
        for steps, reason in zip(num_steps.tolist(), reasons, strict=True)
    )
