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
from typing import Any, ClassVar, Self

import torch

from burnish import __version__
from burnish.errors import InputError
from burnish.files import (
    cache_folder,
    card_path,
    ledger_path,
    path_sha256,
    read_json,
)
from burnish.jobs.job import Job, Shard, cut
from burnish.jobs.options import JobOptions
from burnish.schema import plain
from burnish.storage.remote import is_remote

Tick = Callable[[int], object]

# What one command may say otherwise than another and still mean the same result.
NOT_COMPARED = frozenset(
    ("out", "input", "generated", "guide", "generator", "reference", "features", "refiner",
     "own_labels", "prompts", "captions", "doubt", "choice", "cwd", "json", "save_reference",
     "cache")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """What will be done: plain values; the field ``opened`` holds what they stand for."""

    kind: ClassVar[str]
    mendable: ClassVar[bool] = True
    """Whether a job whose input was refused is kept: what is done of it was hard work."""

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
        return card if not self.differs(card) and card.get("sha256") == self.hashes() else None

    def hashes(self, folder: Path | None = None) -> dict[str, str]:
        """Return the hashes of the output and its ledger, or of those in ``folder``."""
        out = self.out if folder is None else folder / self.out.name
        kinds = {"images": out, "ledger": ledger_path(out)}
        return {name: path_sha256(path) for name, path in kinds.items() if path.exists()}

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
