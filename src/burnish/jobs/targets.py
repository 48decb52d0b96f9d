"""What a plan meets where it writes: a job under way, its own output, or something else."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from burnish.documents import CONTROL
from burnish.errors import InputError
from burnish.files import card_path, check_target, ledger_path, read_json
from burnish.jobs.job import PLAN, has_begun, read_plan
from burnish.jobs.options import JobOptions
from burnish.jobs.plan import Plan, job_path
from burnish.jobs.shares import find_share
from burnish.schema import Range, check, read
from burnish.storage.formats import check_output
from burnish.storage.remote import exists, is_remote

PlanT = TypeVar("PlanT", bound=Plan)


@dataclass(frozen=True)
class Found:
    """What a job that is under way, or an output that is there, has chosen; None if nothing."""

    batch_size: Annotated[int | None, Range(1)] = None
    shard_size: Annotated[int | None, Range(1)] = None
    precision: Literal["float32", "bfloat16"] | None = None
    compile: bool | None = None

    def __post_init__(self) -> None:
        check(self)


def found_plan(out: Path, job: JobOptions) -> Found:
    """Return what the job that is making, or has made, ``out`` has chosen.

    Raises:
        InputError: Its plan is damaged.
    """
    folder, card = job_path(out), card_path(out)
    path = folder / PLAN
    if job.restart:
        return Found()
    if path.is_file():
        values = read_plan(folder)
    elif out.exists() and card.is_file() and not job.force:
        path, values = card, read_json(card)
    else:
        return Found()
    names = [one.name for one in dataclasses.fields(Found)]
    return read(Found, {name: values[name] for name in names if name in values}, str(path))


def check_out(
    out: Path, *inputs: Path, flat: bool = False, names: list[str] | None = None
) -> None:
    """Refuse images that cannot be written; a folder that has a card was made by a job."""
    if out.name and out.is_dir() and card_path(out).is_file():
        check_target(out, *inputs)
    else:
        check_output(out, *inputs, flat=flat, names=names)


def checked(plan: PlanT) -> PlanT:
    """Return the plan.

    Raises:
        InputError: Its output exists, made by something else, and may not be replaced; or the
            share of this process is none.
    """
    find_share(plan.job.share)
    for name, value in plan.frozen().items():
        if isinstance(value, str) and CONTROL.search(value):
            raise InputError(f"{name} {value!a} is no text; rename what it means")
    folder = job_path(plan.out)
    under_way = not plan.job.restart and (folder / PLAN).is_file()
    if under_way and has_begun(folder):
        plan.adopt(read_plan(folder), folder)
    if not plan.job.force and (found := _in_the_way(plan, under_way)):
        raise InputError(f"{found} exists; --force replaces it, or give another name")
    return plan


def _in_the_way(plan: Plan, under_way: bool) -> Path | None:
    """Return what the plan would replace and has not made."""
    out = plan.out
    if is_remote(out):
        return out if exists(out) else None
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        return out if plan.finished() is None else None
    beside = (path for path in (card_path(out), ledger_path(out)) if os.path.lexists(path))
    return None if under_way else next(beside, None)
