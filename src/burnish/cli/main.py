"""The entry point: what a command ends with, whatever happens. It imports nothing slow at first.

Bad input ends with one line on stderr and exit code 2. A job that is stopped (Ctrl-C, SIGTERM, the
terminal closed) takes away what it left unfinished and ends with 128 plus the number of the
signal. Where nobody reads standard output, a command that printed ends with 141, its work done.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from burnish.errors import InputError
from burnish.progress import Lossy

# What to do after a stop, by command.
RESUMING = {
    "sample": "give the same command again to go on",
    "refine": "give the same command again to go on",
    "evaluate": "give the same command again to go on",
    "adapt": "give the same command again to go on",
    "distill": "give the same command again to go on",
    "train": "give the same command again to go on",
    "measure": "give the same command again to go on",
    "demo": "give the same command again to begin anew",
}
# A terminal and a wrapper such as uv may both send the same signal.
REPEAT_SECONDS = 2.0


class Stopped(BaseException):
    """A signal asks to stop; ``number`` is which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 2 on bad input."""
    with _streams(), _signals() as heard:
        message, code = _run(arguments, heard)
        # Here the traceback is gone, and with it any half-drawn progress bar.
        if message:
            print(f"burnish: {_one_line(message)}", file=sys.stderr)
    if code:
        sys.exit(code)


def _run(arguments: list[str] | None, heard: list[int]) -> tuple[str, int]:
    """Return the line to say, if any, and the exit code."""
    try:
        from burnish.cli.commands import Unread, run

        try:
            run(arguments)
            sys.stdout.flush()
            return "", 0
        except (Unread, BrokenPipeError):
            _drop_output()
            return "", 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
        except OSError as error:
            _drop_output()
            if heard:
                raise
            return "; ".join([_said(error), *_notes(error)]), 2
    except InputError as error:
        return "; ".join([str(error), *_notes(error)]), 2
    except (Stopped, KeyboardInterrupt) as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        return _stopped(arguments, error), 128 + number
    except Exception as error:
        if _is_memory(error):
            return "not enough memory; give fewer or smaller images, or a smaller --batch-size", 2
        if not heard:
            raise
        # Half an import, and what was raised meanwhile, may come as any error.
        return _stopped(arguments, error), 128 + heard[0]


def _is_memory(error: Exception) -> bool:
    """Return whether memory ran out: Python's, or torch's on the CPU or on a GPU."""
    of_torch = ("can't allocate memory", "out of memory")
    said = isinstance(error, RuntimeError) and any(text in str(error) for text in of_torch)
    return said or isinstance(error, MemoryError)


def _said(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        reason = "the disk is full; free some space or choose another place"
    return f"{error.filename}: {reason}" if error.filename else reason


def _stopped(arguments: list[str] | None, error: BaseException) -> str:
    words = sys.argv[1:] if arguments is None else arguments
    then = _notes(error) or [RESUMING[word] for word in words[:1] if word in RESUMING]
    return "; ".join(["stopped", *then[:1]])


def _notes(error: BaseException) -> list[str]:
    """Return what was added to an error on its way: what is kept, and how to go on."""
    return list(getattr(error, "__notes__", []))


def _one_line(text: str) -> str:
    """Return a text on one line, without anything that would move a terminal's cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def _drop_output() -> None:
    """Let Python find nothing to complain of when it flushes standard output at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _streams() -> Iterator[None]:
    """Open streams that are closed, lest a file takes their place; let stderr fail in silence."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
    if hasattr(sys.stdout, "reconfigure"):
        stdout: Any = sys.stdout
        stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    before, stderr = sys.stderr, Lossy(sys.stderr)
    sys.stderr = stderr  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        if sys.stderr is stderr:
            sys.stderr = before


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Turn signals into :class:`Stopped`; yield the numbers of those that have come."""
    heard: list[int] = []
    last = 0.0

    def stop(number: int, frame: Any) -> None:
        nonlocal last
        del frame
        now = time.monotonic()
        if heard and now - last < REPEAT_SECONDS:
            return
        last = now
        heard.append(number)
        raise Stopped(number)

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before: dict[Any, Any] = {}
    try:
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            # nohup and the shell's & have some ignored.
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    except ValueError:
        pass  # not in the main thread
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
