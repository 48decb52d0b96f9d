"""What was done to each image."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples


@dataclass(frozen=True)
class Ledger:
    """One row per image of a batch; all ``[B]``."""

    ids: Tensor
    labels: Tensor
    objective_before: Tensor
    objective_after: Tensor
    realness_before: Tensor
    realness_after: Tensor
    l2_moved: Tensor
    linf_moved: Tensor
    num_steps: Tensor
    stopped: tuple[str, ...]
    """Why: ``real enough``, ``no gradient``, ``all steps made`` or ``no steps asked``."""

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


def stop_reasons(settings: RefineSettings, num_steps: Tensor, moved: Tensor) -> tuple[str, ...]:
    """Return why each image stopped.

    Args:
        settings: Of the refinement.
        num_steps: ``[B]``, steps made.
        moved: ``[B, D]``, refined minus original values.
    """
    if settings.num_steps == 0:
        return ("no steps asked",) * len(num_steps)
    may_move = settings.eps != 0 and settings.step_size != 0
    stuck = (moved == 0).all(1) & may_move
    reasons = ["no gradient" if still else "all steps made" for still in stuck.tolist()]
    # Only the stop rule makes fewer steps than were asked for.
    return tuple(
        "real enough" if steps < settings.num_steps else reason
        for steps, reason in zip(num_steps.tolist(), reasons, strict=True)
    )
