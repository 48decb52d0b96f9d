"""A plan: a job that has been resolved and checked, cut into shards, and waits to be run.

Making a plan opens every file once and raises every error that can be known beforehand. Its
fields are plain values, so that it can be printed, kept and compared; what was opened travels
beside them. The result is a function of the plan: who makes which shard, in which order and after
how many attempts changes no byte.
"""

import dataclasses
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import torch

from burnish import __version__
from burnish.errors import InputError
from burnish.files import cache_folder, card_path, check_target, read_json
from burnish.jobs.job import PLAN, Job, Shard, cut, read_plan
from burnish.jobs.options import JobOptions
from burnish.jobs.shares import find_share
from burnish.schema import Range, check, plain, read
from burnish.storage.formats import check_output
from burnish.storage.remote import exists, is_remote

Tick = Callable[[int], object]
PlanT = TypeVar("PlanT", bound="Plan")

# What one command may say otherwise than another and still mean the same result.
NOT_COMPARED = frozenset(
    ("out", "input", "generated", "guide", "generator", "reference", "features", "refiner",
     "own_labels", "doubt", "cwd", "json", "save_reference")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """What will be done: plain values; the field ``opened`` holds what they stand for."""

    kind: ClassVar[str]

    out: Path
    num_images: int
    batch_size: int
    device: str
    shard_size: int
    """Images that are finished together; what is finished survives a killed job."""
    chosen: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """Fields that nobody has asked for; a job that is under way decides them."""
    job: JobOptions = field(default=JobOptions(), repr=False, compare=False)
    opened: Any = field(default=None, repr=False, compare=False)

    def describe(self) -> dict[str, Any]:
        """Return the plan as values for JSON."""
        hidden = ("opened", "chosen", "job")
        names = [one.name for one in dataclasses.fields(self) if one.name not in hidden]
        return {name: plain(getattr(self, name)) for name in names}

    def frozen(self) -> dict[str, Any]:
        """Return what the job's folder keeps: enough to open the plan again elsewhere."""
        return {"kind": self.kind, "burnish": __version__, "cwd": os.getcwd(), **self.describe()}

    def for_card(self) -> dict[str, Any]:
        """Return what the card of the output says of the plan."""
        return {name: value for name, value in self.frozen().items() if name not in ("out", "cwd")}

    def shards(self) -> list[Shard]:
        """Return all shards of the job."""
        return cut(self.num_images, self.shard_size)

    def compared(self) -> dict[str, Any]:
        """Return what the bytes of the result depend on, without paths."""
        return {k: value for k, value in self.frozen().items() if k not in NOT_COMPARED}

    def differs(self, found: Mapping[str, Any]) -> list[str]:
        """Return the fields that another plan would have other bytes by."""
        own = self.compared()
        return [name for name in own if found.get(name) != own[name]]

    def adopt(self, found: Mapping[str, Any], where: object) -> Self:
        """Return this plan with what a job that is under way has chosen.

        Raises:
            InputError: It is another job; the message names a field.
        """
        own, names = self.frozen(), self.differs(found)
        for name in names:
            here, there = own[name], found.get(name)
            if name not in self.chosen or type(here) is not type(there):
                field, here, there = _difference(name, here, there)
                raise InputError(
                    f"{where} holds another job, whose {field} is {_short(there)} and not "
                    f"{_short(here)}; give the same again, --restart, or another name"
                )
        return dataclasses.replace(self, **{name: found[name] for name in names})

    @abstractmethod
    def make(self, shards: Iterable[Shard], job: Job, tick: Tick) -> Iterator[Shard]:
        """Make shards in their order, and yield each when it is finished.

        Args:
            shards: Claimed as they are asked for, maybe by another thread.
            job: Where they are kept, by :meth:`~burnish.jobs.job.Job.writing`.
            tick: Called with the number of images that were done since the last call.
        """

    @abstractmethod
    def finish(self, job: Job, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Join the shards, write the outputs into ``job.result``, and return the card.

        Args:
            job: All of its shards are finished and whole.
            records: One per shard.
        """

    def finished(self) -> dict[str, Any] | None:
        """Return the card of the output if it is there and this plan has made it."""
        if not self.out.exists() or not card_path(self.out).is_file():
            return None
        card = read_json(card_path(self.out))
        return None if self.differs(card) else card

    def run(self) -> dict[str, Any]:
        """Do the work; return what the card beside the output says.

        Where other processes have shares that are not finished, the card is empty.
        """
        from burnish.jobs.engines import run, tidy

        done = None if self.job.force else self.finished()
        if done is None:
            return run(self)
        tidy(self)
        return done


def job_path(out: Path) -> Path:
    """Return the folder of the job that makes ``out``; here, if that is on another machine."""
    if is_remote(out):
        name = hashlib.sha256(str(out).encode()).hexdigest()[:16]
        return cache_folder() / "jobs" / f"{name}-{out.name}.job"
    return out.with_name(f"{out.name}.job")


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


def check_out(out: Path, *inputs: Path, flat: bool = False) -> None:
    """Refuse images that cannot be written; a folder that has a card was made by a job."""
    if out.name and out.is_dir() and card_path(out).is_file():
        check_target(out, *inputs)
    else:
        check_output(out, *inputs, flat=flat)


def checked(plan: PlanT) -> PlanT:
    """Return the plan.

    Raises:
        InputError: Its output exists, made by something else, and may not be replaced; or the
            share of this process is none.
    """
    find_share(plan.job.share)
    if not plan.job.force and _is_there(plan.out) and plan.finished() is None:
        raise InputError(f"{plan.out} exists; --force replaces it, or give another name")
    return plan


def _is_there(out: Path) -> bool:
    if is_remote(out):
        return exists(out)
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def _difference(name: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    """Return where two values differ first, by name, and what they are there."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in here:
            if here[key] != there.get(key):
                return _difference(f"{name}.{key}", here[key], there.get(key))
    return name, here, there


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def resolve_device(device: str) -> str:
    """Return the device to compute on; ``auto`` is a GPU if there is one.

    Where several processes share a machine, ``cuda`` is the GPU of the process's local rank.

    Raises:
        InputError: There is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    if device == "cpu":
        return device
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no device {device!r} here: {reason}") from error
    return device
