"""Which process of a launch by torchrun or accelerate this is, and what its processes exchange.

Without a launcher there is one process, and nothing here costs anything.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed


def count() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE") or 1) if os.environ.get("LOCAL_RANK") else 1


def index() -> int:
    """Return the number of this process; 0 is the one that writes."""
    return int(os.environ.get("RANK") or 0) if count() > 1 else 0


def share(total: int) -> slice:
    """Return the rows of a batch that are this process's."""
    own = total // count()
    return slice(index() * own, (index() + 1) * own)


def gather(values: Tensor) -> Tensor:
    """Return ``[B, ...]`` of all processes one after the other; all have the same B."""
    if count() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(count())]
    distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def mean(numbers: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Return the means over all processes of numbers of the same names."""
    if count() == 1:
        return dict(numbers)
    dtype = torch.float32 if device.type == "mps" else torch.float64
    values = torch.tensor(list(numbers.values()), dtype=dtype, device=device)
    distributed.all_reduce(values)
    return dict(zip(numbers, (values / count()).tolist(), strict=True))


def told(value: Any) -> Any:
    """Return the value of process 0, of any type that pickle knows."""
    if count() == 1:
        return value
    holder = [value]
    distributed.broadcast_object_list(holder)
    return holder[0]
