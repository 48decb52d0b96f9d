"""Models on disk: one safetensors file whose header holds the card that rebuilds the network.

Nothing is unpickled, so loading a file runs no code of its author. Names, types and shapes in the
header are compared with the network before any of it is allocated.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from burnish.documents import parse_json
from burnish.errors import InputError
from burnish.files import write_aside
from burnish.networks.build import build, sketch
from burnish.networks.fit import misfit
from burnish.networks.sizes import Channels, Side
from burnish.schema import read

# Tensors beside the weights have names that begin so.
BESIDE = "beside."
FLOATS, INTEGERS = ("F64", "F32", "F16", "BF16"), ("I64",)


@dataclass(frozen=True)
class Card:
    """What is known of any model; a field that is not listed is kept and never read."""

    open = True
    name: str = ""
    kind: str = ""
    data: str = ""
    """What it was trained on."""
    network: dict[str, Any] = field(default_factory=dict)
    """Its name and arguments."""
    classifies: bool = True
    image_shape: tuple[Channels, Side, Side] | None = None
    """(C, H, W) of the images it was trained on."""
    license: str = ""
    sha256: str = ""


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
    """Return the model of a file, in eval mode with float32 weights, and its card.

    Raises:
        InputError: There is no such file, it holds no card, or :func:`load_weights` refuses it.
    """
    with _opened(path) as file:
        text = (file.metadata() or {}).get("card")
    card = parse_json(text, f"the card in {path}") if text is not None else None
    if not isinstance(card, dict) or not card.get("network"):
        raise InputError(f"{path} holds no burnish card: no network in it")
    network = read(Card, card, f"the card in {path}").network
    if "pretrained" in network:
        network["pretrained"] = False  # the file holds the weights; fetch none
    try:
        blank = sketch(network)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return load_weights(path, blank, lambda: build(network)), card


def load_weights(path: Path, blank: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with the weights of a file, in eval mode and float32.

    Args:
        path: A ``.safetensors`` file.
        blank: The network on the meta device, which the header is compared with.
        make: Builds the network, once the header was found to fit.

    Raises:
        InputError: A tensor is missing, surplus, of another shape or type, or holds NaN, infinity,
            or a standard deviation or variance that is none; the message names it.
    """
    wanted = blank.state_dict()
    with _opened(path) as file:
        names = {name for name in file.keys() if not name.startswith(BESIDE)}
        headers = {name: file.get_slice(name) for name in names}
        if fault := _misfit(wanted, headers):
            raise InputError(f"the weights in {path} do not fit their card: {fault}")
        state = {name: file.get_tensor(name) for name in wanted}
    for name, values in state.items():
        if values.is_floating_point():
            state[name] = values = values.float()
            if not bool(values.isfinite().all()):
                raise InputError(f"{path}: {name} holds NaN or infinite values")
        # What is divided by, or by the root of which.
        low = values.min().item() if values.numel() else 0
        if (name.endswith("normalize.std") and low <= 0) or (
            name.endswith("running_var") and low < 0
        ):
            raise InputError(f"{path}: {name} must be above 0; it reaches {low:g}")
    model = make()
    model.load_state_dict(state)
    return model.eval()


def _misfit(wanted: Mapping[str, Tensor], headers: Mapping[str, Any]) -> str:
    """Return what of a header does not fit a network; empty if all does."""
    if found := misfit(wanted, {name: one.get_shape() for name, one in headers.items()}):
        return found
    for name, header in headers.items():
        kind = str(header.get_dtype())
        kinds = FLOATS if wanted[name].is_floating_point() else INTEGERS
        if kind not in kinds:
            return f"{name} holds {kind}, not {' or '.join(kinds)}"
    return ""


def load_beside(path: Path) -> dict[str, Tensor]:
    """Return the tensors that were saved beside the weights of a model, by name.

    Raises:
        InputError: One of them holds other than finite numbers.
    """
    with _opened(path) as file:
        names = [name for name in file.keys() if name.startswith(BESIDE)]
        found = {name.removeprefix(BESIDE): file.get_tensor(name) for name in names}
    for name, values in found.items():
        if not values.is_floating_point() or not bool(values.isfinite().all()):
            raise InputError(f"{path}: {BESIDE}{name} must hold finite numbers")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"no model at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        reason = " ".join(str(error).split())[:200]
        said = f"{path} is not a safetensors file: {reason}"
        if path.suffix != ".safetensors":
            said += "; burnish import makes a guide of a checkpoint of PyTorch"
        raise InputError(said) from error
