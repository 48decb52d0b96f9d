"""What the gallery makes once and keeps on disk, up to a limit; and by what it knows it again."""

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from burnish.errors import InputError
from burnish.files import cache_folder, write_aside
from burnish.storage.parts import find_parts

MAX_BYTES = 256 * 2**20
PRUNE_EVERY = 64


class Store:
    """Files by key in a folder of the cache; those used longest ago go when it is full.

    A folder that cannot be written is no fault: things are then made anew each time.

    Args:
        name: Of the folder.
        max_bytes: What the files hold together, about.
    """

    def __init__(self, name: str = "gallery", max_bytes: int = MAX_BYTES) -> None:
        self.folder, self.max_bytes = cache_folder() / name, max_bytes
        self._lock, self._written = threading.Lock(), 0

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Return what is kept under a key, or make and keep it."""
        path = self.path(key)
        with suppress(OSError):
            kept = path.read_bytes()
            os.utime(path)
            return kept
        made = make()
        with self._lock, suppress(OSError):
            with write_aside(path) as aside:
                aside.write_bytes(made)
            if self._written % PRUNE_EVERY == 0:
                self._prune()
            self._written += 1
        return made

    def path(self, key: str) -> Path:
        """Return where the file of a key lies, if it is kept."""
        return self.folder / hashlib.sha256(key.encode()).hexdigest()[:32]

    def _prune(self) -> None:
        found = [(path, path.stat()) for path in self.folder.iterdir() if path.is_file()]
        total = sum(status.st_size for _, status in found)
        for path, status in sorted(found, key=lambda one: one[1].st_mtime):
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= status.st_size


def stamp(paths: Sequence[Path]) -> str:
    """Return a text that changes when one of the files, folders or patterns does."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path))
        with suppress(InputError):  # data of the hub are no files; their name stands for them
            for part in find_parts(path):
                for one in sorted(part.rglob("*")) if part.is_dir() else [part]:
                    status = one.stat()
                    digest.update(os.fsencode(one.resolve()))
                    digest.update(f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
