"""From what a checkpoint holds to the weights of one network, without wrappers and extras."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.errors import InputError, shown
from burnish.foreign.values import Persistent, Stub

State = dict[str, Tensor]
PREFIXES = ("module.", "model.", "base_model.", "_orig_mod.")
_MEANS, _STDS = ("new_mean", "mean", "mu"), ("new_std", "std", "sigma")
MAX_NETWORKS = 100


@dataclass
class Weights:
    """The weights of one network by the names of its own layers."""

    state: State
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and standard deviation, if the file holds them."""
    family: str = ""
    """Where what lies beside the weights leaves no doubt."""
    notes: list[str] = field(default_factory=list)


def choose(content: Any, index: int | None, path: Path) -> State:
    """Return the weights of the network that is meant.

    Raises:
        InputError: There is none; or several and no index; or the index is none of them.
    """
    found: dict[str, State] = {}
    _collect(content, "", found)
    if not found:
        held = type(content).__name__
        if isinstance(content, Stub | Persistent):
            held = f"a whole module ({shown(getattr(content, 'name', ''))})"
        elif isinstance(content, dict):
            if any(isinstance(one, Persistent) for one in content.values()):
                raise InputError(f"{path} holds a generator, as EDM saves it, and no classifier")
            held = ", ".join(shown(key) for key in list(content)[:8])
        raise InputError(
            f"{path} holds no weights of a network, but {held}; save model.state_dict()"
        )
    names = list(found)
    if index is None and len(names) > 1:
        listed = ", ".join(f"{place}: {shown(name)}" for place, name in enumerate(names[:20]))
        raise InputError(f"{path} holds {len(names)} networks; choose one by --index ({listed})")
    if not 0 <= (index or 0) < len(names):
        raise InputError(
            f"{path} holds {len(names)} networks; --index goes up to {len(names) - 1}"
        )
    return found[names[index or 0]]


def _collect(value: Any, where: str, found: dict[str, State], depth: int = 0) -> None:
    if depth > 4 or len(found) > MAX_NETWORKS:
        return
    if isinstance(value, dict):
        state = {
            key: one for key, one in value.items()
            if isinstance(key, str) and isinstance(one, Tensor)
        }  # fmt: skip
        if any(one.ndim > 1 for one in state.values()):
            found[where or "the file"] = state
            return
        for key, one in value.items():
            if isinstance(key, str) and not key.startswith(("optim", "sched", "amp", "scaler")):
                _collect(one, f"{where}.{key}".lstrip("."), found, depth + 1)
    elif isinstance(value, list | tuple) and len(value) <= MAX_NETWORKS:
        for place, one in enumerate(value):
            _collect(one, f"{where}[{place}]", found, depth + 1)


def unwrap(state: State, path: Path) -> Weights:
    """Take off prefixes that all names share, and what is no weight of the network.

    That is: ``n_averaged`` of averaged models, ``dummy`` of the joint model, buffers of a
    normalization, and the second copy of the network that an attacker holds.

    Raises:
        InputError: Normalizations in the file differ, or the second copy does.
    """
    weights, means, stds = Weights(dict(state)), [], []
    twin: State = {}
    while True:
        before = len(weights.state), next(iter(weights.state), "")
        state = weights.state
        sequential = {"0.mean", "0.std"} <= state.keys()
        for name in list(state):
            last = name.rpartition(".")[2]
            head = name.rpartition(".")[0]
            beside = head in ("", "normalize", "normalizer") or (sequential and head == "0")
            if name in ("n_averaged", "dummy"):
                weights.family = "joint" if name == "dummy" else weights.family
                weights.notes.append(f"left out: {name}")
                del state[name]
            elif name.startswith("attacker."):
                twin[name.removeprefix("attacker.")] = state.pop(name)
            elif beside and last in _MEANS + _STDS and state[name].numel() in (1, 3):
                (means if last in _MEANS else stds).append(state.pop(name))
        for prefix in (*PREFIXES, "1." if sequential else ""):
            if prefix and state and all(name.startswith(prefix) for name in state):
                weights.state = {name.removeprefix(prefix): one for name, one in state.items()}
                break
        if before == (len(weights.state), next(iter(weights.state), "")):
            break
    if twin:
        weights.family = "robustness"
        weights.notes.append("left out: the attacker's copy of the network")
        other = unwrap(twin, path)
        if other.normalization:
            means.append(torch.tensor(other.normalization[0], dtype=torch.float64))
            stds.append(torch.tensor(other.normalization[1], dtype=torch.float64))
        same = other.state.keys() == weights.state.keys() and all(
            torch.equal(one, weights.state[name]) for name, one in other.state.items()
        )
        if not same:
            raise InputError(f"{path}: the attacker in it holds another network than the model")
    if means or stds:
        weights.normalization = _one(means, path), _one(stds, path)
    return weights


def _one(found: list[Tensor], path: Path) -> tuple[float, ...]:
    rows = {tuple(round(float(x), 7) for x in one.double().flatten()) for one in found}
    if len(rows) != 1:
        raise InputError(f"{path} holds {len(rows)} means or deviations to normalize by, not one")
    return rows.pop()
