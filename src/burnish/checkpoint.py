"""Models on disk: one safetensors file whose header holds the card that rebuilds the network.

Nothing is ever unpickled. Everything is written aside and then renamed, so that a file under its
final name is always whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from burnish.errors import InputError
from burnish.networks import build

__all__ = [
    "SHIPPED", "check_target", "file_sha256", "fingerprint", "load_model", "save_model",
    "write_aside",
]  # fmt: skip

# Models that come with the package, one folder per data set.
SHIPPED = Path(__file__).parent / "weights"


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well.

    The block may write a file or fill a folder. If it raises, the temporary is removed and what
    was under ``path`` before is untouched.

    Raises:
        InputError: A folder would replace a file, or a file a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    _remove(aside)  # what a killed process of the same number may have left
    try:
        yield aside
        if path.exists() and path.is_dir() != aside.is_dir():
            kind = "folder" if path.is_dir() else "file"
            raise InputError(f"{path} is a {kind} already; give another name or delete it")
        if path.is_dir():
            # No rename replaces a full folder, so the old one steps aside; it is deleted only
            # once the new one stands.
            _remove(old)
            os.replace(path, old)
        os.replace(aside, path)
    except BaseException:
        _remove(aside)
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    _remove(old)


def check_target(path: Path, *inputs: Path) -> None:
    """Refuse an output path that cannot be a file, before any work is done.

    Raises:
        InputError: It is a folder, lies below a file, has no name, or is one of the inputs.
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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """Return a hash of a file, or of the names and bytes of all files of a folder."""
    if path.is_file():
        return file_sha256(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    parts = [f"{one.relative_to(path)} {file_sha256(one)}" for one in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def save_model(path: Path, model: nn.Module, card: Mapping[str, Any], half: bool = False) -> None:
    """Write a model and its card as one ``.safetensors`` file.

    Args:
        path: Where; replaced if it exists.
        model: What ``networks.build(card["network"])`` built.
        card: Facts that rebuild and identify the model; ``network`` holds the name and arguments.
        half: Store floating-point weights as float16; loading makes them float32 again.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        state[name] = tensor.half() if half and tensor.is_floating_point() else tensor
    with write_aside(path) as aside:
        save_file(state, aside, metadata={"card": json.dumps(dict(card))})
        aside.chmod(0o644)  # safetensors writes files that others may not read


def load_model(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a model from its file alone; returns it in eval mode with float32 weights.

    Raises:
        InputError: The file is missing, is not a safetensors file of ours, or its weights do not
            fit the network that its card names.
    """
    if not path.is_file():
        raise InputError(f"no model at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})["card"])
            state = {name: file.get_tensor(name) for name in file.keys()}
        network = dict(card["network"])
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no burnish card: no network in it") from error
    if "pretrained" in network:
        network["pretrained"] = False  # the weights are here; nothing is to be fetched
    try:
        model = build(network)
        model.load_state_dict(state)  # which copies float16 into float32 weights
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"the weights in {path} do not fit their card: {reason}") from error
    return model.eval(), card
