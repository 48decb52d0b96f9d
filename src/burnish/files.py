"""Files: written whole or not at all, checked before the work, hashed, and told where from.

Everything that burnish writes goes through :func:`write_aside`. A file or folder under its final
name is therefore always complete, whenever the process is killed.
"""

import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.documents import load_json
from burnish.errors import InputError, shown
from burnish.leftovers import aside_of, clear_stale, remove

MAX_NAME = 255  # bytes of one name, the limit of most file systems


def cache_folder() -> Path:
    """Return where things are kept that can be made or fetched again: ``$BURNISH_CACHE``."""
    return Path(os.environ.get("BURNISH_CACHE", "~/.cache/burnish")).expanduser()


def card_path(path: Path) -> Path:
    """Return the JSON file beside a file of samples that says how they were made.

    It keeps the whole name, so that ``r.npz`` and ``r.parquet`` have a card each.
    """
    return path.with_name(f"{path.name}.card.json")


def ledger_path(path: Path) -> Path:
    """Return the parquet file beside refined samples with one row per image."""
    return path.with_name(f"{path.name}.ledger.parquet")


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well.

    The block may write a file or fill a folder. If it raises, the temporary path is removed, with
    the folders that were made for it, and what was under ``path`` before is untouched. What killed
    processes have left beside ``path`` is removed.

    Raises:
        InputError: A folder would replace a file, or a file a folder.
        OSError: The disk is full (ENOSPC), whatever the libraries say that write to it.
    """
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_stale(path)
    aside, old = aside_of(path, "part"), aside_of(path, "old")
    remove(aside)  # a killed process with the same number may have left it
    try:
        yield aside
        if path.exists() and path.is_dir() != aside.is_dir():
            kind = "folder" if path.is_dir() else "file"
            raise InputError(f"{path} is a {kind} already; give another name or delete it")
        if path.is_dir():
            # A rename cannot replace a full folder; the old one is deleted once the new stands.
            remove(old)
            os.replace(path, old)
        os.replace(aside, path)
    except BaseException as error:
        full = _is_full(error, path.parent)
        remove(aside)
        if old.exists() and not path.exists():
            os.replace(old, path)
        with suppress(OSError):  # a folder that is no longer empty stays
            for parent in made:
                parent.rmdir()
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    remove(old)


def _is_full(error: BaseException | None, folder: Path) -> bool:
    if not isinstance(error, Exception) or isinstance(error, InputError):
        return False
    if shutil.disk_usage(folder).free < 2**16:
        return True
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8; half a character, as names of files have, becomes a number."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as indented JSON at full precision."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, at most 64 MiB and three million values.

    Raises:
        InputError: See :func:`burnish.documents.parse_json`; or it is something else.
    """
    content = load_json(path, scale=64)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values in JSON, not {shown(content)}")
    return content


def check_target(path: Path, *inputs: Path | str, force: bool = True) -> None:
    """Refuse an output path that cannot be written, before any work is done.

    Args:
        path: A file to write or replace, or, without a suffix, a folder to fill.
        inputs: What is read: files, folders or patterns, some of their rows as ``PATH[0-9]``, or
            names of something else. The output must replace none of it, nor a card or a ledger
            beside it, whatever ``force`` says.
        force: Whether an existing file may be replaced. Commands pass what the user has said; by
            default it may, as a caller in Python names its files itself.

    Raises:
        InputError: The path has no name or too long a one, is of the wrong kind, lies below a file
            or where nothing can be written, is one of the inputs, or exists without ``force``.
    """
    if path.name in ("", ".."):
        raise InputError(f"{str(path)!r} has no file name; say where to write")
    if "\0" in str(path) or len(os.fsencode(path.name)) > MAX_NAME:
        raise InputError(f"{str(path)[:80]!r}... is no name of a file; choose a shorter one")
    if path.is_dir() and path.suffix:
        raise InputError(f"{path} is a folder; choose another name")
    if path.exists() and not path.is_dir() and not path.is_file():
        raise InputError(f"{path} is a device or a pipe; choose the name of a file")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir():
        raise InputError(f"{path} cannot be written: {parent} is a file")
    if dead := [one for one in path.absolute().parents if one.is_symlink() and not one.exists()]:
        raise InputError(f"{path} cannot be written: {dead[0]} is a link to nothing")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = f"{parent}: {error.strerror}; choose another place"
        raise InputError(f"{path} cannot be written: {reason}") from error
    if any(_is_part(path, str(given)) for given in inputs):
        raise InputError(f"{path} would replace its own input; choose another name")
    if not force and os.path.lexists(path) and not path.is_dir():
        raise InputError(f"{path} exists already; choose another name, or --force to replace it")


def _is_part(path: Path, given: str) -> bool:
    """Return whether a path is an input, a part of one, or a card or ledger beside one."""
    for text in {given, re.sub(r"\[\d+-\d+\]$", "", given)} - {""}:
        parts = [Path(text)]
        if parts[0].is_dir() and os.path.lexists(path):
            if os.path.realpath(text) in map(str, Path(os.path.realpath(path)).parents):
                return True
        elif not parts[0].exists() and glob.has_magic(text):
            parts += map(Path, glob.iglob(text))
        if any(_is_same(path, one) for one in parts):
            return True
    return False


def _is_same(path: Path, one: Path) -> bool:
    beside = [card_path(one), ledger_path(one)] if one.name else []
    for other in (one, *beside):
        if os.path.realpath(path) == os.path.realpath(other):
            return True
        with suppress(OSError, ValueError):  # a hard link, or another case of letters
            if os.path.samefile(path, other):
                return True
    return False


def path_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and bytes of a folder's or pattern's files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    folder, found = (
        (path, path.rglob("*")) if path.is_dir() else (path.parent, path.parent.glob(path.name))
    )
    files = sorted(one for one in found if one.is_file())
    parts = [f"{one.relative_to(folder)} {path_sha256(one)}" for one in files]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


def provenance() -> dict[str, str | None]:
    """Return versions and, in a git checkout of burnish, the commit ("-dirty" if changed)."""
    return {
        "burnish": __version__,
        "torch": version("torch"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # An installed copy may lie in another project's checkout, whose commit means nothing here.
        if not (here.parents[1] / ".git").exists():
            return None
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
