"""Locks of a job's folder: which process works on what, and who is there at all.

They are POSIX locks on places of one file. The system drops those of a dead process at once; where
the file system has no locks, each is taken as free.
"""

import contextlib
import errno
import os
from pathlib import Path

from burnish.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None

# Places of locks: that of a shard is its number. FINISH is held while outputs are written;
# PRESENT is shared by all who have the job open.
FINISH = 1 << 40
PRESENT = FINISH + 2


class LockedFolder:
    """A folder with a file of locks, made if it is not there.

    Raises:
        InputError: Its name is that of something else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            kind = "a link" if folder.is_symlink() else "a file"
            raise InputError(
                f"{folder} is {kind}, and no folder of a job; move it, or give another name"
            )
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "locks").exists():
            raise InputError(f"{folder} is the folder of something else; move it, or give another "
                             "name")  # fmt: skip
        self._enter()

    def _enter(self) -> None:
        """Open the file of locks; again, where another process has just removed the folder."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._locks = (self.folder / "locks").open("a+b")
                self.lock(PRESENT, wait=True, shared=True)
                if self.is_here():
                    return
                self._locks.close()

    def close(self) -> None:
        """Give all locks back."""
        self._locks.close()

    def is_here(self) -> bool:
        """Return whether the folder is the one that was opened, and not one made since."""
        with contextlib.suppress(FileNotFoundError, ValueError):  # gone, or closed
            here, opened = os.stat(self.folder / "locks"), os.fstat(self._locks.fileno())
            return os.path.samestat(here, opened)
        return False

    def is_alone(self) -> bool:
        """Return whether no other process has the job open; then none can open it any more."""
        return self.lock(0, count=0)

    def share(self) -> None:
        """Let others open the folder, and count as one who has it open."""
        self.unlock(0, count=0)
        self.lock(PRESENT, wait=True, shared=True)

    def lock(
        self, place: int, *, wait: bool = False, shared: bool = False, count: int = 1
    ) -> bool:
        """Lock ``count`` places, 0 for all; return whether no other process holds one of them."""
        if fcntl is None:
            return True
        try:
            how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.lockf(self._locks, how if wait else how | fcntl.LOCK_NB, count, place)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN)  # else there are no locks here
        return True

    def unlock(self, place: int, *, count: int = 1) -> None:
        """Give places back."""
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._locks, fcntl.LOCK_UN, count, place)
