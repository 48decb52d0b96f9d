"""The votes: a file of lines, only ever appended to, each on the disk before it is acknowledged.

It is the one file that is not written aside and renamed: what is there must never be in danger.
A process that is killed leaves at most a last line without an end, which nobody was told is safe.
"""

import json
import os
import re
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from burnish.documents import parse_json
from burnish.errors import InputError
from burnish.survey.study import Study

CHOICES = ("left", "right", "tie")
NONCE = re.compile(r"[0-9A-Za-z-]{8,64}")
MAX_SECONDS = 86_400.0


@dataclass(frozen=True)
class Answer:
    """One line: a vote, or, with the choice ``join``, that somebody took a place."""

    rater: int
    """Place in the study, from 0."""
    trial: int
    """Place among the rater's trials, from 0; -1 if somebody joined."""
    choice: str
    """``left``, ``right``, ``tie`` (cannot tell) or ``join``."""
    seconds: float
    """From the moment that both images were seen, by the clock of the rater."""
    nonce: str
    """Drawn by the page for each vote: the same vote sent twice is one vote."""
    time: str
    """When it arrived, UTC."""


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_answers(study: Study) -> tuple[list[Answer], bytes]:
    """Return the answers, and the bytes of a last line that was cut off.

    Raises:
        InputError: A line is no answer to this study; nothing is skipped in silence.
    """
    if not study.answers.exists():
        return [], b""
    lines = study.answers.read_bytes().split(b"\n")
    answers, due, joined = [], [0] * len(study.raters), set()
    for number, line in enumerate(lines[:-1], 1):
        try:
            answer = Answer(**parse_json(line.decode(), "the line"))
        except (ValueError, TypeError) as error:
            raise InputError(f"{study.answers}, line {number}: not an answer") from error
        if answer.choice == "join" and _is_place(study, answer.rater):
            joined.add(answer.rater)
        elif _fits(study, answer) and answer.trial == due[answer.rater]:
            due[answer.rater] += 1
        else:
            raise InputError(f"{study.answers}, line {number}: answers nothing that is asked")
        answers.append(answer)
    return answers, lines[-1]


def _is_place(study: Study, rater: Any) -> bool:
    return type(rater) is int and 0 <= rater < len(study.raters)


def _fits(study: Study, answer: Answer) -> bool:
    place = _is_place(study, answer.rater) and type(answer.trial) is int
    trial = place and 0 <= answer.trial < len(study.raters[answer.rater].trials)
    if not isinstance(answer.nonce, str) or not isinstance(answer.time, str):
        return False
    return trial and answer.choice in CHOICES and is_duration(answer.seconds)


def is_duration(value: Any) -> bool:
    """Return whether a value is a number of seconds that a vote may take."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= MAX_SECONDS  # NaN is not


class AnswerFile:
    """The file of answers, open for appending, by one process at a time.

    Opening it repairs a last line that was cut off: its bytes go to ``answers.torn``.

    Raises:
        InputError: Another process serves this study, or the file holds something else.
    """

    def __init__(self, study: Study) -> None:
        self._file = os.open(study.answers, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _lock(self._file, study.folder)
            self.answers, torn = read_answers(study)
            self._size = os.fstat(self._file).st_size - len(torn)
            if torn:
                _keep(study.answers.with_name("answers.torn"), torn)
                os.ftruncate(self._file, self._size)
            os.fsync(self._file)
            _sync_folder(study.folder)
        except BaseException:
            os.close(self._file)
            raise
        self._queue, self._write = threading.Lock(), threading.Lock()
        self._pending: list[bytes] = []
        self._taken = self._written = 0
        self._failed: set[int] = set()

    def append(self, answer: Answer) -> None:
        """Return once the answer is on the disk.

        Threads that come while another one writes are served together by the next write.

        Raises:
            OSError: It is not on the disk, for example because that is full.
        """
        line = json.dumps(asdict(answer), allow_nan=False).encode() + b"\n"
        with self._queue:
            self._taken += 1
            ticket = self._taken
            self._pending.append(line)
        with self._write:
            if self._written < ticket:
                with self._queue:
                    lines, self._pending, last = self._pending, [], self._taken
                tickets = range(self._written + 1, last + 1)
                self._written = last
                try:
                    self._append(b"".join(lines))
                except OSError:
                    self._failed.update(tickets)
            if ticket in self._failed:
                self._failed.remove(ticket)
                raise OSError("the answer could not be written")

    def _append(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)  # half a line would spoil the next
            raise
        self._size += len(data)

    def close(self) -> None:
        """Let other processes open it."""
        os.close(self._file)


def _lock(file: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"{folder} is served by another process; stop that first") from error


def _keep(path: Path, torn: bytes) -> None:
    with path.open("ab") as file:
        file.write(torn + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
