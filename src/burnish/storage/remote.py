"""Samples elsewhere: ``s3://``, ``hf://``, ``memory://`` and what else fsspec opens.

They are copied, piece by piece, from or to a temporary folder of this machine; all else is done
there. Object stores show an upload once it is whole; elsewhere it is renamed at the end.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from burnish.errors import InputError
from burnish.storage.sample_file import printable

# A path of pathlib has lost one of the two slashes. Drives of Windows have one letter.
_REMOTE = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*)", re.DOTALL)


def is_remote(path: str | Path) -> bool:
    """Return whether a path names another machine, as ``scheme://...``."""
    return bool(_REMOTE.fullmatch(str(path)))


@contextmanager
def _faults(path: str) -> Iterator[None]:
    """Turn what fsspec and its back ends raise into an :class:`InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each back end has errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{printable(path)}: {reason} ({type(error).__name__})") from error


def _open(path: str | Path) -> tuple[Any, str, str]:
    """Return the file system of a path, the path in there, and the path as it was meant."""
    match = _REMOTE.fullmatch(str(path))
    assert match
    url = f"{match[1]}://{match[2]}"
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(
            f"{printable(url)} needs the package fsspec; pip install fsspec"
        ) from error
    with _faults(url):
        files, inner = url_to_fs(url)
    return files, inner.rstrip("/"), url


def exists(path: str | Path) -> bool:
    """Return whether there is something at a remote path.

    Raises:
        InputError: It cannot be reached, or fsspec is not installed.
    """
    files, inner, url = _open(path)
    with _faults(url):
        return bool(files.exists(inner))


def fetch(path: str | Path) -> tuple[Path, TemporaryDirectory[str]]:
    """Copy a remote file, pattern or folder; return where it lies, and the folder that holds it.

    Raises:
        InputError: There is nothing, it cannot be reached, or fsspec is not installed.
    """
    files, inner, url = _open(path)
    here = TemporaryDirectory(prefix="burnish-")
    name = PurePosixPath(inner).name
    with _faults(url):
        if any(sign in name for sign in "*?[{"):
            from burnish.storage.parts import expand

            found = [one for each in expand(name) for one in files.glob(_beside(inner, each))]
            targets = [Path(here.name) / PurePosixPath(one).name for one in found]
        elif files.isdir(inner):
            found = sorted(files.find(inner))
            targets = [Path(here.name) / name / _below(inner, one) for one in found]
        else:
            found, targets = [inner] if files.exists(inner) else [], [Path(here.name) / name]
        if not found:
            raise InputError(f"{printable(url)}: no such file or folder; check the path")
        for one, target in zip(found, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(one, str(target))
    return Path(here.name) / name, here


@contextmanager
def sent(path: str | Path) -> Iterator[Path]:
    """Give a local path to write; when the block ends well, it is copied to ``path``.

    Raises:
        InputError: It cannot be written there, or fsspec is not installed.
    """
    files, inner, url = _open(path)
    with TemporaryDirectory(prefix="burnish-") as folder:
        local = Path(folder) / PurePosixPath(inner).name
        yield local
        with _faults(url):
            if local.is_dir() and files.exists(inner) and files.find(inner):
                raise InputError(f"{printable(url)}: the folder is not empty; choose another name")
            aside = f"{inner}.part"
            if files.exists(aside):
                files.rm(aside, recursive=True)
            files.makedirs(inner.rpartition("/")[0], exist_ok=True)
            if local.is_file():
                files.put_file(str(local), aside)
                files.mv(aside, inner)
                return
            for one in sorted(local.rglob("*")):
                if one.is_file():
                    target = f"{aside}/{one.relative_to(local).as_posix()}"
                    files.makedirs(target.rpartition("/")[0], exist_ok=True)
                    files.put_file(str(one), target)
            files.mv(aside, inner, recursive=True)


def _beside(inner: str, name: str) -> str:
    folder = inner.rpartition("/")[0]
    return f"{folder}/{name}" if folder else name


def _below(folder: str, path: str) -> str:
    below = PurePosixPath(path.lstrip("/")).relative_to(folder.lstrip("/"))
    if ".." in below.parts:
        raise InputError(f"{printable(path)} leads out of {printable(folder)}")
    return str(below)
