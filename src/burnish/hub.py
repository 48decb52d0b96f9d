"""From a name to files: what ships in the package, a local path, or the Hugging Face hub.

Shipped models lie in one folder per collection, ``weights/cifar10/`` for example:

    ========== ============================ ===============================
    kind       name                         files
    ========== ============================ ===============================
    guide      ``cifar10``                  ``guide.safetensors``
    generator  ``cifar10``                  ``generator/``
    features   ``cifar10/plain``            ``features-plain.safetensors``
    reference  ``cifar10/plain``            ``reference-plain.npz``
    ========== ============================ ===============================

What a name stands for is compared with the SHA-256 that is known of it: shipped files with
``weights/SHA256SUMS``, files in the cache of the hub with the name of their blob, which the hub
gives to large files. Of no other file a hash is known.
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from burnish.errors import InputError, shown, unknown
from burnish.files import path_sha256

Kind = Literal["guide", "generator", "features", "reference"]

SHIPPED = Path(__file__).parent / "weights"
PATTERNS = {
    "guide": "*/guide.safetensors",
    "generator": "*/generator",
    "features": "*/features-*.safetensors",
    "reference": "*/reference-*.npz",
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SUMS = SHIPPED / "SHA256SUMS"
WEIGHTS = "model.safetensors"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def shipped(kind: Kind) -> dict[str, Path]:
    """Return the files of a kind that ship in the package, by name."""
    found = {}
    for path in sorted(SHIPPED.glob(PATTERNS[kind])):
        variant = path.stem.partition("-")[2]
        found[f"{path.parent.name}/{variant}" if variant else path.parent.name] = path
    return found


def find(kind: Kind, name: str, others: tuple[str, ...] = ()) -> Path:
    """Return the file or folder that a name stands for; a hub repository is downloaded first.

    A shipped name wins over a path. What is neither, but looks like ``owner/name``, is taken for a
    repository on the hub; of it, only configuration and safetensors files are fetched.

    Raises:
        InputError: There is nothing of that name, or the hub cannot be reached; ``others`` are
            further valid names for the message.
    """
    known, path = shipped(kind), Path(name)
    if max(map(len, name.split("/"))) > 200:  # the system would refuse to look
        raise InputError(f"no {kind} {shown(name)}: the name is too long")
    if name in known:
        return _checked_shipped(known[name])
    if name and "\0" not in name and path.exists():
        if not (path.is_file() or path.is_dir()):
            raise InputError(f"{name} is neither a file nor a folder")
        return weights_of(path)
    if path.suffix in (".safetensors", ".npz"):
        raise InputError(f"no {kind} at {path}")
    near = {item.partition("/")[0] for item in (*known, *others)}
    if not HUB_ID.fullmatch(name) or name.partition("/")[0] in near:
        raise unknown(kind, name, ["PATH", "OWNER/NAME", *known, *others])
    return weights_of(fetch_repository(kind, name, ["*.json", "*.safetensors"]))


def weights_of(path: Path) -> Path:
    """Return the file of weights of a folder in the hub's layout; a path of anything else."""
    of_diffusers = (path / "model_index.json").exists() or (path / "unet").exists()
    return path / WEIGHTS if (path / WEIGHTS).is_file() and not of_diffusers else path


def fetch_repository(
    kind: str, name: str, patterns: Sequence[str], or_else: Sequence[str] = ()
) -> Path:
    """Return the folder with some files of a repository of the hub, fetched or from its cache.

    Where the hub does not answer within seconds, only the cache is looked at.

    Args:
        kind: What it is, for messages.
        name: ``owner/name``.
        patterns: Names of the files.
        or_else: Names to fetch too, where there are no safetensors.

    Raises:
        InputError: It is no such name, the hub has no such repository or cannot be reached, or a
            file in the cache has another SHA-256 than the hub says; the message says what to do.
    """
    if not HUB_ID.fullmatch(name):
        raise unknown(kind, name, ["PATH", "OWNER/NAME"])
    from huggingface_hub import snapshot_download

    from burnish.networks.fetched import hub_or_cache

    with hub_or_cache() as offline:
        try:
            folder = Path(snapshot_download(name, allow_patterns=list(patterns)))
            if or_else and not any(folder.glob("*.safetensors")):
                folder = Path(snapshot_download(name, allow_patterns=[*patterns, *or_else]))
        except Exception as error:  # the hub's own, httpx's and the system's
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            said = f"no {kind} {name!r} here, and the hub has none: {reason}"
            if offline:
                said = (
                    f"no {kind} {name!r} here, and the hub cannot be reached ({offline}); "
                    f"elsewhere 'hf download {name} --local-dir FOLDER' fetches it, to give here"
                )
            raise InputError(said) from error
    for path in sorted(folder.rglob("*")):
        blob = os.path.realpath(path)
        sha256 = os.path.basename(blob)
        if _SHA256.fullmatch(sha256) and path.is_file() and path_sha256(path) != sha256:
            raise InputError(f"{path} has not the SHA-256 of the hub; delete {blob} to fetch it")
    return folder


def known_sha256(path: Path) -> dict[Path, str]:
    """Return the files of a shipped model and their published hashes; empty for any other."""
    own = {SHIPPED / name: sha256 for name, sha256 in _sums().items()}
    return {one: sha256 for one, sha256 in own.items() if one == path or path in one.parents}


def _checked_shipped(path: Path) -> Path:
    for one, sha256 in known_sha256(path).items():
        if not one.is_file() or path_sha256(one) != sha256:
            raise InputError(f"{one} has not the SHA-256 of {SUMS.name}; install burnish again")
    return path


@functools.cache
def _sums() -> dict[str, str]:
    lines = SUMS.read_text().splitlines() if SUMS.is_file() else []
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}
