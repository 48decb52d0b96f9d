"""Models on disk: one safetensors file whose header holds the card that rebuilds the network.

Nothing is unpickled, so loading a file runs no code of its author.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.networks.build import build

# Tensors beside the weights have names that begin so.
BESIDE = "beside."


def save_model(
    path: Path, model: nn.Module, card: Mapping[str, Any], half: bool = False,
    beside: Mapping[str, Tensor] | None = None,
) -> None:  # fmt: skip
    """Write a model and its card as one ``.safetensors`` file.

    Args:
        path: The file; replaced if it exists.
        model: The network that ``build(card["network"])`` built.
        card: JSON values that rebuild (``network``: its name and arguments) and identify it.
        half: Store floating-point weights as float16; loading makes them float32 again.
        beside: Other tensors that belong to the model, by name; see :func:`load_beside`.
    """
    state = {name: values.cpu().contiguous() for name, values in model.state_dict().items()}
    if half:
        state = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    state |= {BESIDE + name: values.cpu().contiguous() for name, values in (beside or {}).items()}
    with write_aside(path) as aside:
        save_file(state, aside, metadata={"card": json.dumps(dict(card))})
        aside.chmod(0o644)  # safetensors writes files that only their owner can read


def load_model(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model of a file, in eval mode with float32 weights, and its card."""
    if not path.is_file():
        raise InputError(f"no model at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})["card"])
            names = [name for name in file.keys() if not name.startswith(BESIDE)]
            state = {name: file.get_tensor(name) for name in names}
        network = dict(card["network"])
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no burnish card: no network in it") from error
    if "pretrained" in network:
        network["pretrained"] = False  # the file holds the weights; fetch none
    try:
        model = build(network)
        model.load_state_dict(state)  # which copies float16 into float32 weights
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"the weights in {path} do not fit their card: {reason}") from error
    return model.eval(), card


def load_beside(path: Path) -> dict[str, Tensor]:
    """Return the tensors that were saved beside the weights of a model, by name."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(BESIDE)]
        return {name.removeprefix(BESIDE): file.get_tensor(name) for name in names}
