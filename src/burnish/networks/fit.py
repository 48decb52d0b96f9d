"""Weights of files into a network: every name and shape must fit."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from burnish.errors import InputError, shown

COUNTER = "num_batches_tracked"
"""Of batch norms; older versions of torch did not count, and nothing depends on it."""


def misfit(wanted: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> str:
    """Return which tensor is missing, surplus or of another shape; empty if all fit."""
    for name in sorted(wanted.keys() | shapes.keys()):
        if name not in shapes:
            return f"{name} is missing"
        if name not in wanted:
            return f"{shown(name)} is one tensor too many"
        here, there = list(shapes[name]), list(wanted[name].shape)
        if here != there:
            return f"{name} is of shape {here}, not {there}"
    return ""


def fault(state: Mapping[str, Tensor]) -> str:
    """Return which tensor holds NaN, infinity or a variance below 0; empty if none does.

    Names are shown as they are: :func:`misfit` has compared them with those of a network.
    """
    for name, values in state.items():
        if not bool(values.isfinite().all()):
            return f"{name} holds NaN or infinite values"
        if name.endswith(("_var", "_vars")) and values.numel() and values.min() < 0:
            return f"{name} holds a variance below 0: {values.min().item():g}"
    return ""


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
    counters = {name for name in wanted if name.endswith(COUNTER)}
    state = {name: values for name, values in state.items() if name not in counters}
    if found := misfit(
        {name: values for name, values in wanted.items() if name not in counters},
        {name: values.shape for name, values in state.items()},
    ) or fault(state):
        raise InputError(found)
    network = make()
    network.load_state_dict({**state, **{name: torch.tensor(0) for name in counters}})
    return network.eval()
