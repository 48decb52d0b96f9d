"""Which network some weights belong to, told from the names and shapes of its layers."""

import re
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from burnish.errors import InputError
from burnish.guide.importers.architectures import find_architecture
from burnish.guide.importers.state import State

ASKS_RELU = "relu, silu or gelu"


@dataclass
class Layout:
    """A network of :mod:`burnish.networks.build` without its normalization, and its weights."""

    network: dict[str, Any]
    state: State
    asks_activation: bool = False
    """Whether its activation cannot be told from the weights."""
    side: int | None = 32
    """Of the images that it takes, where it takes no others or was trained on these."""
    notes: list[str] = field(default_factory=list)


def layout_of(state: State, source: str = "") -> Layout:
    """Return the network that weights belong to.

    Args:
        state: The weights, without prefixes.
        source: ``timm/NAME`` or ``torchvision/NAME``, if the user says so.

    Raises:
        InputError: It is none of those known; the message names a layer.
    """
    if source:
        return Layout(*find_architecture(state, source))
    for known, make in _LAYOUTS:
        if all(name in state for name in known):
            return make(state)
    if state and all(re.fullmatch(r"\d{1,2}\.(weight|bias)", name) for name in state):
        return _plain(state)
    network, renamed, asks, side = find_architecture(state)
    return Layout(network, renamed, asks, side)


def _depth(state: State, pattern: str) -> int:
    """Return how many layers there are whose names fit a pattern with one number."""
    places = {int(found[1]) for name in state if (found := re.match(pattern, name))}
    if places != set(range(len(places))) or len(places) > 200:
        raise InputError(f"the layers {pattern} are not numbered from 0 on; is a part missing?")
    return len(places)


def _four(state: State, pattern: str, first: int) -> list[int]:
    return [_depth(state, pattern.format(stage)) for stage in range(first, first + 4)]


def _ends(state: State, first: str, last: str) -> dict[str, Any]:
    """Return the number of channels of images and the number of classes."""
    if state[first].ndim != 4 or state[last].ndim != 2:
        raise InputError(f"{first} or {last} is not of a convolution or a linear layer")
    return {"in_channels": state[first].shape[1], "num_classes": state[last].shape[0]}


def _deepmind_wide(state: State) -> Layout:
    depth = 6 * _depth(state, r"layer\.0\.block\.(\d+)\.") + 4
    wide = state["layer.0.block.0.conv_0.weight"].shape[0] // 16
    ends = _ends(state, "init_conv.weight", "logits.weight")
    network = {"name": "deepmind_wide_resnet", **ends, "depth": depth, "widen_factor": wide}
    return Layout(network, state, True)


def _deepmind(state: State) -> Layout:
    network = {
        "name": "deepmind_resnet", **_ends(state, "conv_2d.weight", "logits.weight"),
        "blocks": _four(state, r"layer_{}\.(\d+)\.", 0), "width": state["conv_2d.weight"].shape[0],
    }  # fmt: skip
    return Layout(network, state, True)


def _wide(state: State) -> Layout:
    kept = {name: one for name, one in state.items() if not name.startswith("sub_block1.")}
    notes = ["left out: sub_block1, which is not used"] if len(kept) < len(state) else []
    network = {
        "name": "cifar_wide_resnet", **_ends(state, "conv1.weight", "fc.weight"),
        "depth": 6 * _depth(state, r"block1\.layer\.(\d+)\.") + 4,
        "widen_factor": state["block1.layer.0.conv1.weight"].shape[0] // 16,
    }  # fmt: skip
    return Layout(network, kept, True, notes=notes)


def _crown(state: State) -> Layout:
    stages = _depth({name[5:]: one for name, one in _shift(state).items()}, r"(\d+)\.")
    blocks = [_depth(state, rf"layer{stage + 1}\.(\d+)\.") for stage in range(stages)]
    last = state["linear1.weight"].shape[1] / (2 * state["conv1.weight"].shape[0])
    network = {
        "name": "crown_resnet", **_ends(state, "conv1.weight", "linear2.weight"),
        "width": state["conv1.weight"].shape[0], "blocks": blocks,
        "hidden": state["linear1.weight"].shape[0], "side": round(last**0.5) * 2 ** (stages + 1),
    }  # fmt: skip
    return Layout(network, state, side=network["side"])


def _shift(state: State) -> State:
    """Return the layers ``layer1``, ``layer2``, ... numbered from 0 on."""
    found = {name: re.match(r"layer(\d)(\..*)", name) for name in state}
    return {f"layer{int(at[1]) - 1}{at[2]}": state[name] for name, at in found.items() if at}


def _cifar(state: State) -> Layout:
    network = {
        "name": "cifar_resnet", **_ends(state, "conv1.weight", "linear.weight"),
        "blocks": _four(state, r"layer{}\.(\d+)\.", 1),
        "bottleneck": "layer1.0.conv3.weight" in state, "width": state["conv1.weight"].shape[0],
    }  # fmt: skip
    if "bn1.weight" not in state:
        network |= {"preactivation": "unknown", "final_norm": "bn.weight" in state}
    return Layout(network, state, True)


def _plain(state: State) -> Layout:
    names = sorted(state, key=lambda name: int(name.partition(".")[0]))
    weights = [state[name] for name in names if name.endswith("weight")]
    convolutions = [one for one in weights if one.ndim == 4]
    linear = [one for one in weights if one.ndim == 2]
    if not convolutions or not linear or len(convolutions) + len(linear) != len(weights):
        raise InputError("its numbered layers are not convolutions, then linear layers")
    kernel, channels = convolutions[0].shape[2], convolutions[0].shape[1]
    flat, side = linear[0].shape[1], 28 if channels == 1 else 32
    fitting = []
    for stride, padding in product((1, 2), range(kernel // 2 + 1)):
        size = side
        for _ in convolutions:
            size = (size + 2 * padding - kernel) // stride + 1
        if size > 0 and size * size * convolutions[-1].shape[0] == flat:
            fitting.append((stride, padding))
    if len(fitting) != 1:
        raise InputError(
            f"{len(fitting)} strides and paddings fit its convolutions and images of {side} px; "
            "such networks are read only where one does"
        )
    network = {
        "name": "plain_conv_net", "in_channels": channels, "num_classes": linear[-1].shape[0],
        "widths": [one.shape[0] for one in convolutions], "kernel_size": kernel,
        "stride": fitting[0][0], "padding": fitting[0][1],
        "hidden": [one.shape[0] for one in linear[:-1]], "side": side,
    }  # fmt: skip
    return Layout(network, state, side=side)


# The first whose layers are all there.
_LAYOUTS = (
    (("init_conv.weight", "logits.weight", "layer.0.block.0.conv_0.weight"), _deepmind_wide),
    (("conv_2d.weight", "logits.weight"), _deepmind),
    (("conv1.weight", "block1.layer.0.conv1.weight", "fc.weight"), _wide),
    (("conv1.weight", "conv1.bias", "linear1.weight", "linear2.weight"), _crown),
    (("conv1.weight", "layer1.0.conv1.weight", "linear.weight"), _cifar),
)
