"""The folder of a job: its plan, and what is done of it.

``OUT.job/`` lies beside the output while the work goes on, and is deleted when it is done::

    plan.json              the plan; the same command goes on, another one is refused
    00000000-00001999/     a finished shard: its files, and record.json with their hashes
    .00000000-*.part/      a shard in the making
    locks                  which process works on which shard, and who is there at all
    result/                the outputs, until they are moved to their final names

A shard is filled aside and renamed, so a shard that is there is whole. Processes share nothing but
this folder. What a dead one held is free at once, because the system drops its locks. Where the
file system has no locks, two processes may make the same shard, with the same bytes.
"""

import contextlib
import errno
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from burnish.errors import InputError
from burnish.files import path_sha256, read_json, write_json
from burnish.jobs.locks import LockedFolder
from burnish.leftovers import clear_deleted, remove
from burnish.storage.remote import is_remote, sent

RECORD, PLAN = "record.json", "plan.json"


class Shard(NamedTuple):
    """Rows ``start`` to ``stop - 1`` of what a job reads."""

    number: int
    start: int
    stop: int
    of: str = ""
    """Which of the inputs, where there are several."""

    @property
    def num_images(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.of}{self.start:08d}-{self.stop - 1:08d}"


def cut(num_rows: int, size: int, of: str = "", first_number: int = 0) -> list[Shard]:
    """Cut rows into shards of ``size``; the last may be smaller."""
    return [
        Shard(first_number + number, start, min(start + size, num_rows), of)
        for number, start in enumerate(range(0, num_rows, size))
    ]


class Job(LockedFolder):
    """A job's folder.

    Args:
        folder: Made if it is not there.
        plan: The plan as values for JSON, kept if the folder holds none yet.
        restart: Forget what was done, and begin with this plan.

    Attributes:
        plan: The plan that the folder holds.

    Raises:
        InputError: The folder is something else, or its plan is damaged; or with ``restart``,
            another process is at work.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], *, restart: bool = False) -> None:
        super().__init__(folder)
        if restart:
            self.restart(plan)
            return
        if not (folder / PLAN).exists():
            aside = folder / f".{PLAN}.{uuid.uuid4().hex}"
            write_json(aside, plan)
            try:
                os.link(aside, folder / PLAN)
            except FileExistsError:  # another process was faster
                pass
            except OSError:  # no hard links here
                os.replace(aside, folder / PLAN)
            aside.unlink(missing_ok=True)
        self.plan = read_plan(folder)

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def result(self) -> Path:
        """The folder of the outputs that are being written."""
        return self.folder / "result"

    def exists(self) -> bool:
        """Return whether the folder is there: no other process has finished the job."""
        return (self.folder / PLAN).exists() and self.is_here()

    def is_idle(self) -> bool:
        """Return whether nothing is finished, and no other process has the job open."""
        return not has_begun(self.folder) and self.is_alone()

    def restart(self, plan: Mapping[str, Any]) -> None:
        """Forget what was done, and begin with this plan.

        Raises:
            InputError: Another process is at work.
        """
        if not self.is_alone():
            raise InputError(f"another process is at work in {self.folder}; stop it first")
        for path in self.folder.iterdir():
            if path.name not in ("locks", PLAN):
                remove(path)
        write_json(self.folder / PLAN, plan)
        self.plan = dict(plan)
        self.share()

    def delete(self) -> None:
        """Remove the folder."""
        # Renamed first, so that no half of a job is found under its name.
        gone = self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.folder, gone)
        self.close()
        clear_deleted(self.folder)

    def publish(self, out: Path) -> None:
        """Move what lies in ``result/`` beside ``out``, and ``out`` itself at last.

        Where ``out`` is found, its ledger and its card are therefore those that belong to it.
        """
        made = sorted(self.result.iterdir(), key=lambda path: path.name == out.name)
        if is_remote(out):
            for path in made:
                with sent(out.with_name(path.name)) as local:
                    shutil.move(path, local)
            return
        for path in made:
            _sync(path)
        if made and os.path.lexists(out):
            remove(self.folder / "replaced")
            os.replace(out, self.folder / "replaced")
        for path in made:
            os.replace(path, out.with_name(path.name))

    def is_done(self, shard: Shard) -> bool:
        """Return whether a shard is finished."""
        return (self.folder / shard.name / RECORD).exists()

    def claim(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Yield, and lock, the shards that are not finished and that no other process makes."""
        for shard in shards:
            if not self.is_done(shard) and self.lock(shard.number):
                if self.is_done(shard) or not self.exists():  # a moment ago
                    self.unlock(shard.number)
                else:
                    yield shard

    @contextlib.contextmanager
    def writing(self, shard: Shard) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Give a folder to fill and a dict for the record; then the shard is finished.

        If the block raises, nothing is left.
        """
        began, record = time.perf_counter(), dict[str, Any]()
        aside = self.folder / f".{shard.name}.{uuid.uuid4().hex}.part"
        aside.mkdir()
        try:
            yield aside, record
            files = {path.name: path_sha256(path) for path in sorted(aside.iterdir())}
            record |= {"num_images": shard.num_images, "sha256": files}
            record["host"] = socket.gethostname()
            record.setdefault("seconds", time.perf_counter() - began)
            write_json(aside / RECORD, record)
            if not self.is_done(shard):  # a half that a loss of power, or half a removal, has left
                shutil.rmtree(self.folder / shard.name, ignore_errors=True)
            with contextlib.suppress(FileExistsError):  # without locks, another process made it
                _rename(aside, self.folder / shard.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            self.unlock(shard.number)

    def record(self, shard: Shard) -> dict[str, Any] | None:
        """Return the record of a shard; None, and the shard is removed, if it is damaged.

        A disk that lost power may hold files without their contents.
        """
        folder = self.folder / shard.name
        try:
            record = read_json(folder / RECORD)
            hashes = {name: path_sha256(folder / name) for name in record["sha256"]}
            if hashes == record["sha256"] and record["num_images"] == shard.num_images:
                return record
        except (InputError, OSError, KeyError, TypeError):
            pass
        shutil.rmtree(folder, ignore_errors=True)
        return None


def has_begun(folder: Path) -> bool:
    """Return whether anything is finished in the folder of a job."""
    return any(folder.glob(f"[!.]*/{RECORD}"))


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the plan that a job's folder holds.

    Raises:
        InputError: It is damaged, as by a loss of power.
    """
    try:
        return read_json(folder / PLAN)
    except InputError as error:
        raise InputError(f"{error}; --restart begins anew") from error


def _sync(path: Path) -> None:
    """Wait until a file, or what is directly in a folder, is on the disk and not on its way."""
    if path.is_dir() and any(path.iterdir()) and hasattr(os, "sync"):
        os.sync()
    elif path.is_file():
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def _rename(aside: Path, folder: Path) -> None:
    try:
        os.rename(aside, folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(folder) from error
        raise
