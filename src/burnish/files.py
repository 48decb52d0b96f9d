"""Files: written whole or not at all, checked before the work, hashed, and told where from.

Everything that burnish writes goes through :func:`write_aside`. A file or folder under its final
name is therefore always complete, whenever the process is killed.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.errors import InputError


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

    The block may write a file or fill a folder. If it raises, the temporary path is removed and
    what was under ``path`` before is untouched.

    Raises:
        InputError: A folder would replace a file, or a file a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    _remove(aside)  # a killed process with the same number may have left it
    try:
        yield aside
        if path.exists() and path.is_dir() != aside.is_dir():
            kind = "folder" if path.is_dir() else "file"
            raise InputError(f"{path} is a {kind} already; give another name or delete it")
        if path.is_dir():
            # A rename cannot replace a full folder; the old one is deleted once the new stands.
            _remove(old)
            os.replace(path, old)
        os.replace(aside, path)
    except BaseException:
        _remove(aside)
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    _remove(old)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as indented JSON at full precision."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def check_target(path: Path, *inputs: Path) -> None:
    """Refuse an output path that cannot be written, before any work is done.

    Args:
        path: A file to write or replace, or, without a suffix, a folder to fill.
        inputs: What is read; the output must not replace it.

    Raises:
        InputError: The path has no name, is of the wrong kind, lies below a file or in a read-only
            folder, or is one of the inputs.
    """
    if not path.name:
        raise InputError(f"{str(path)!r} has no file name; say where to write")
    if path.is_dir() and path.suffix:
        raise InputError(f"{path} is a folder; choose another name")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir():
        raise InputError(f"{path} cannot be written: {parent} is a file")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{path} cannot be written: {parent} is read-only; choose another place")
    if path.resolve() in [Path(given).resolve() for given in inputs]:
        raise InputError(f"{path} would replace its own input; choose another name")


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
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def provenance() -> dict[str, str | None]:
    """Return versions and, in a git checkout of burnish, the commit ("-dirty" if changed)."""
    return {
        "burnish": __version__,
        "torch": version("torch"),
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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
