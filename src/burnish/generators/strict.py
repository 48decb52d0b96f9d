"""Weights of others into a network of ours: every name and shape must fit."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from burnish.errors import InputError, shown


def fitted(blank: nn.Module, make: Callable[[], nn.Module], state: dict[str, Tensor]) -> nn.Module:
    """Return a network with exactly these tensors, in eval mode.

    Args:
        blank: The network on the meta device, which the tensors are compared with first.
        make: Builds it.
        state: Its tensors; counters of batch norms may be missing.

    Raises:
        InputError: A tensor is missing, surplus, of another shape, not finite, or a variance below
            0; the message names it.
    """
    wanted = blank.state_dict()
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    for name in sorted((wanted.keys() | state.keys()) - counters):
        if name not in state:
            raise InputError(f"{name} is missing")
        if name not in wanted:
            raise InputError(f"{shown(name)} is one tensor too many")
        here, there = list(state[name].shape), list(wanted[name].shape)
        if here != there:
            raise InputError(f"{name} is of shape {here}, not {there}")
        if not bool(state[name].isfinite().all()):
            raise InputError(f"{name} holds NaN or infinite values")
        if name.endswith(("_var", "_vars")) and state[name].numel() and state[name].min() < 0:
            raise InputError(f"{name} is a variance, and reaches {state[name].min().item():g}")
    network = make()
    network.load_state_dict({**state, **{name: torch.tensor(0) for name in counters}})
    return network.eval()
