"""Temporary files beside their targets: their names, and what killed processes left of them."""

import hashlib
import os
import platform
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

# A writer on another host cannot be asked whether it lives; its file is touched more often.
STALE_SECONDS = 24 * 3600


def aside_of(path: Path, end: str) -> Path:
    """Return the hidden name beside a path under which this process keeps what is unfinished."""
    return path.with_name(f".{_short(path)}.{_writer(os.getpid())}.{end}")


def _short(path: Path) -> str:
    """Return the name of a path; a long one is cut, and ends in a hash of all of it."""
    raw = os.fsencode(path.name)
    if len(raw) <= 160:
        return path.name
    return f"{raw[:150].decode(errors='ignore')}~{hashlib.sha256(raw).hexdigest()[:8]}"


def _writer(pid: int) -> str:
    """Return what names a process in the names of its temporary files: its host and number."""
    return f"{hashlib.sha256(platform.node().encode()).hexdigest()[:6]}-{pid}"


def clear_stale(path: Path) -> None:
    """Remove what killed processes left beside a path; put back what they had moved away."""
    name = re.compile(rf"\.+{re.escape(_short(path))}\.([0-9a-f]{{6}}-(\d+))\.(part|old)(\..*)?")
    with os.scandir(path.parent) as entries:
        found = [match for entry in entries if (match := name.fullmatch(entry.name))]
    for match in found:
        left = path.parent / match[0]
        with suppress(OSError):  # another process may be as quick
            if _lives(left, match[1], int(match[2])):
                continue
            if match[3] == "old" and not match[4] and not os.path.lexists(path):
                os.replace(left, path)
            else:
                remove(left)


def _lives(left: Path, writer: str, pid: int) -> bool:
    if writer != _writer(pid) or os.name == "nt":
        return time.time() - left.lstat().st_mtime < STALE_SECONDS
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clear_deleted(folder: Path) -> None:
    """Remove what is left of the deleted jobs of a name, of killed processes too."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{32}}")
    for path in folder.parent.iterdir():
        if name.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
