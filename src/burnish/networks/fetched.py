"""Weights that other libraries publish: found in their caches or fetched.

A file in a cache may have been put there by anybody, so it is never unpickled, and its SHA-256
must begin as its name says. Without a network everything here fails within seconds.
"""

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, getproxies, proxy_bypass, urlopen

from burnish.errors import InputError

SECONDS = 3.0
# As torch.hub has it: weights-6726825d.pth.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.")


def unreachable(url: str) -> str:
    """Return why what is behind an address, or its proxy, does not answer; empty if it does.

    A machine that takes connections and then says nothing would be waited for for minutes by
    libraries, so one request must be answered, however it be.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    where = parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)
    found: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection(where, SECONDS).close()
            with urlopen(Request(url, method="HEAD"), timeout=SECONDS):
                found.append("")
        except HTTPError:
            found.append("")
        except (OSError, ValueError, HTTPException) as error:
            found.append(getattr(error, "strerror", "") or str(error) or type(error).__name__)

    # In a thread, since looking up a name takes no time limit.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * SECONDS)
    return f"{where[0]}: {found[0]}" if found and found[0] else "" if found else "no answer"


def fetch(url: str, name: str = "") -> Path:
    """Return a file of torch's cache, downloaded if it is not there.

    Args:
        url: Where it is.
        name: Its name in the cache, if not that in the address. The hash in it is checked.

    Raises:
        InputError: It cannot be fetched, or has another hash than its name says.
    """
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / (name or urlsplit(url).path.split("/")[-1])
    sha256 = found[1] if (found := _HASH.search(path.name)) else ""
    if not path.exists():
        reason = unreachable(url)
        if not reason:
            path.parent.mkdir(parents=True, exist_ok=True)
            before = socket.getdefaulttimeout()
            try:
                socket.setdefaulttimeout(10)
                torch.hub.download_url_to_file(url, str(path), sha256 or None)
            except Exception as error:  # of urllib, http, ssl or torch
                reason = " ".join(str(error).split()) or type(error).__name__
            finally:
                socket.setdefaulttimeout(before)
        if reason:
            raise InputError(f"{url} cannot be fetched ({reason}); put a copy at {path}")
    if not path.is_file():
        raise InputError(f"{path} is not a file; delete it, to fetch {url}")
    with path.open("rb") as file:
        right = not sha256 or hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256)
    if not right:
        raise InputError(f"{path} has not the SHA-256 of its name; delete it, to fetch {url}")
    return path


@contextmanager
def tensors_only() -> Iterator[None]:
    """Keep libraries that call ``torch.load`` from unpickling anything but tensors."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def hub_or_cache() -> Iterator[str]:
    """Let ``huggingface_hub`` use its cache alone where the hub does not answer; yield why not.

    By itself it would try again for up to a minute.
    """
    from huggingface_hub import constants

    reason, before = unreachable(constants.ENDPOINT), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = bool(reason)
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = before
