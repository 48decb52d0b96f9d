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
"""

import re
from pathlib import Path
from typing import Literal

from burnish.errors import InputError, shown, unknown

Kind = Literal["guide", "generator", "features", "reference"]

SHIPPED = Path(__file__).parent / "weights"
PATTERNS = {
    "guide": "*/guide.safetensors",
    "generator": "*/generator",
    "features": "*/features-*.safetensors",
    "reference": "*/reference-*.npz",
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


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
        return known[name]
    if name and "\0" not in name and path.exists():
        if not (path.is_file() or path.is_dir()):
            raise InputError(f"{name} is neither a file nor a folder")
        return path
    if path.suffix in (".safetensors", ".npz"):
        raise InputError(f"no {kind} at {path}")
    near = {item.partition("/")[0] for item in (*known, *others)}
    if not HUB_ID.fullmatch(name) or name.partition("/")[0] in near:
        raise unknown(kind, name, [*known, *others, "PATH", "OWNER/NAME"])
    from huggingface_hub import snapshot_download

    from burnish.networks.fetched import hub_or_cache

    patterns = ["*.json", "*.safetensors"]
    with hub_or_cache() as offline:
        try:
            return Path(snapshot_download(name, allow_patterns=patterns))
        except Exception as error:  # the hub's own, httpx's and the system's
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            said = f"no {kind} {name!r} here, and the hub has none: {reason}"
            if offline:
                said = (
                    f"no {kind} {name!r} here, and the hub cannot be reached ({offline}); "
                    f"elsewhere 'hf download {name} --local-dir FOLDER' fetches it, to give here"
                )
            raise InputError(said) from error
