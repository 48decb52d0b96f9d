"""GANs of others: architecture and classes are read from the shapes, spectral norms folded in.

* ``mimicry``: ``netG_STEP_steps.pth`` of torch-mimicry.
* ``biggan``: ``G.pth`` and ``G_ema.pth`` of BigGAN-PyTorch, and DiffAugment-BigGAN's files.
* ``biggan-deep``: ``pytorch_model.bin`` of pytorch-pretrained-BigGAN.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.errors import InputError, shown

State = dict[str, Tensor]


def mimicry(state: State) -> tuple[dict[str, Any], State]:
    """Return the network's arguments and its weights."""
    numbers = _numbers(state, r"block(\d+)\.c1\.weight", first=2)
    first = _shape(state, "l1.weight", 2)
    widths = [_shape(state, "block2.c1.weight", 4)[1]]
    widths += [_shape(state, f"block{number}.c1.weight", 4)[0] for number in numbers]
    labels = state.get("block2.b1.embed.weight")
    arguments = {
        "name": "mimicry", "latent_size": first[1], "widths": widths,
        "bottom": _bottom(first[0], widths[0]),
        "num_classes": None if labels is None else len(labels),
    }  # fmt: skip
    # Norms with classes hold theirs in a module of its own.
    return arguments, {re.sub(r"(b\d)\.bn\.", r"\1.", name): v for name, v in state.items()}


def biggan(state: State) -> tuple[dict[str, Any], State]:
    """Return the network's arguments and its weights, divided by their spectral norms."""
    state = {re.sub(r"\.bn\.(stored|running)_", r".stored_", n): v for n, v in state.items()}
    for name in [name for name in state if name.endswith("accumulation_counter")]:
        if float(state.pop(name).sum()):
            raise InputError("its norms hold sums of standing statistics, which are not read")
    state = {name: value for name, value in state.items() if not name.endswith("running_counter")}
    if any(re.search(r"\.u[1-9]\d*$", name) for name in state):
        raise InputError("it has more than one singular vector per weight, which is not read")
    state = _folded(state, "u0", _one_iteration)
    numbers = _numbers(state, r"blocks\.(\d+)\.0\.conv1\.weight")
    first = _shape(state, "linear.weight", 2)
    widths = [_shape(state, "blocks.0.0.conv1.weight", 4)[1]]
    widths += [_shape(state, f"blocks.{number}.0.conv1.weight", 4)[0] for number in numbers]
    gain, shared = _shape(state, "blocks.0.0.bn1.gain.weight", 2), state.get("shared.weight")
    parts = shared is not None and gain[1] != _shape(state, "shared.weight", 2)[1]
    arguments = {
        "name": "biggan", "widths": widths, "bottom": _bottom(first[0], widths[0]),
        "num_classes": gain[0] if shared is None else len(shared),
        "latent_size": first[1] * (len(widths) if parts else 1),
        "shared_size": None if shared is None else shared.shape[1], "hierarchical": parts,
        "attention": [n for n in numbers if f"blocks.{n}.1.theta.weight" in state],
    }  # fmt: skip
    return arguments, state


def biggan_deep(state: State) -> tuple[dict[str, Any], State]:
    """Return the network's arguments and its weights, divided by their spectral norms."""
    state = _folded(state, "weight_u", _of_torch)
    conv = r"generator\.layers\.(\d+)\.conv_0\.weight"
    places = sorted(int(found[1]) for name in state if (found := re.fullmatch(conv, name)))
    if not places:
        raise InputError("it has no generator.layers.0.conv_0.weight")
    layers = [f"generator.layers.{place}" for place in places]
    widths = [_shape(state, f"{layers[0]}.conv_0.weight", 4)[1]]
    widths += [_shape(state, f"{layer}.conv_3.weight", 4)[0] for layer in layers]
    # Attention is a layer of its own, and leaves a gap among the blocks.
    gaps = [place for place in range(places[-1]) if place not in places]
    if len(gaps) > 1:
        raise InputError(f"its layers {shown(gaps)} are missing, or attention")
    num_stats = _shape(state, f"{layers[0]}.bn_0.running_means", 2)[0]
    embedding = _shape(state, "embeddings.weight", 2)
    arguments = {
        "name": "biggan_deep", "num_classes": embedding[1], "latent_size": embedding[0],
        "widths": widths, "attention": gaps[0] if gaps else None, "num_stats": num_stats,
    }  # fmt: skip
    names = {"snconv1x1_theta": "theta", "snconv1x1_phi": "phi", "snconv1x1_g": "g",
             "snconv1x1_o_conv": "o"}  # fmt: skip
    renamed = {
        ".".join(names.get(part, part) for part in name.split(".")): value
        for name, value in state.items()
    }
    for name in [name for name in renamed if name.endswith(".gamma")]:
        renamed[name] = renamed[name].reshape(())
    return arguments, renamed


def _folded(state: Mapping[str, Tensor], mark: str, sigma_of: Any) -> State:
    """Return a state whose weights are divided by their spectral norms, without the vectors."""
    found = dict(state)
    for name in [name for name in state if name.split(".")[-1] == mark]:
        module = name[: -len(mark)]
        weight = found.pop(f"{module}weight_orig", found.get(f"{module}weight"))
        vector = found.pop(name)
        others = {key: found.pop(f"{module}{key}", None) for key in ("sv0", "weight_v")}
        if weight is None or weight.ndim < 2 or vector.numel() != len(weight):
            raise InputError(f"{shown(name)} belongs to no weight of its size")
        matrix = weight.flatten(1).double()
        sigma = float(sigma_of(matrix, vector.double().flatten(), others["weight_v"], module))
        if not math.isfinite(sigma) or sigma == 0:
            raise InputError(f"the spectral norm of {module}weight is {sigma:g}")
        found[f"{module}weight"] = (weight.double() / sigma).float()
    return found


def _one_iteration(matrix: Tensor, u: Tensor, *_: Any) -> Tensor:
    """Return the norm that BigGAN-PyTorch divides by in eval mode: one iteration from u0."""
    v = F.normalize(u @ matrix, dim=0, eps=1e-12)
    return v @ matrix.T @ F.normalize(matrix @ v, dim=0, eps=1e-12)


def _of_torch(matrix: Tensor, u: Tensor, v: Tensor | None, module: str) -> Tensor:
    """Return the norm that ``torch.nn.utils.spectral_norm`` divides by in eval mode."""
    if v is None or v.numel() != matrix.shape[1]:
        raise InputError(f"{shown(module)}weight_v is missing, or not of the size of the weight")
    return u @ matrix @ v.double().flatten()


def _numbers(state: State, pattern: str, first: int = 0) -> list[int]:
    """Return the numbers of blocks, which must follow on each other."""
    found = sorted(int(match[1]) for name in state if (match := re.fullmatch(pattern, name)))
    if not found or found != list(range(first, first + len(found))) or len(found) > 9:
        raise InputError(f"its blocks are numbered {shown(found)}; they begin with {first}")
    return found


def _shape(state: State, name: str, ndim: int) -> list[int]:
    if name not in state:
        raise InputError(f"{name} is missing")
    shape = list(state[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise InputError(f"{name} is of shape {shape}")
    return shape


def _bottom(size: int, width: int) -> int:
    bottom = round((size / width) ** 0.5)
    if bottom**2 * width != size:
        raise InputError(f"its first layer gives {size} values, no square of {width} channels")
    return bottom


def tensors(content: Any) -> State:
    """Return the tensors of a state dict, by name, floats as float32; without counters.

    Raises:
        InputError: It is no state dict, or holds other tensors than of numbers.
    """
    if not isinstance(content, dict) or not content:
        raise InputError("no dictionary of tensors in it")
    state = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{shown(name)} in it is no tensor")
        if name.endswith("num_batches_tracked"):
            continue
        if not value.is_floating_point():
            raise InputError(f"{shown(name)} holds {value.dtype}, not floats")
        name = name.removeprefix("module.")
        if name in state:
            raise InputError(f"{shown(name)} is in it twice")
        state[name] = value.detach().to(torch.float32)
    return state
