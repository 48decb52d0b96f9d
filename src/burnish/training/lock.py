"""A lock on a folder, so that two trainings do not write to it at once.

It is a POSIX lock on a file, which the system drops when the process ends, however it ends. Where
the file system has no locks it is taken as free.
"""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from burnish.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None


@contextlib.contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder; the file ``lock`` in it stays.

    Args:
        folder: Made if it is not there.
        wait: Wait for another process that holds it, instead of refusing.

    Raises:
        InputError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+b") as file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise InputError(
                        f"{folder}: another burnish is training there; wait for it, or give "
                        "another --out"
                    ) from error
        yield
