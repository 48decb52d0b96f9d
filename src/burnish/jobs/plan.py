"""A plan: a job that has been resolved and checked, and waits to be run.

Making a plan opens every file once and raises every error that can be known beforehand. Its
fields are plain values, so that it can be printed, kept and compared; what was opened travels
beside them. Running it does the work and writes the outputs; nothing is left to decide then.
"""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from burnish.errors import InputError
from burnish.schema import plain


@dataclass(frozen=True)
class Plan(ABC):
    """What will be done: plain values; the field ``opened`` holds what they stand for."""

    def describe(self) -> dict[str, Any]:
        """Return the plan as values for JSON."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "opened"]
        return {name: plain(getattr(self, name)) for name in names}

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Do the work; return what the card beside the output says."""


def resolve_device(device: str) -> str:
    """Return the device to compute on; ``auto`` is a GPU if there is one.

    Raises:
        InputError: There is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no device {device!r} here: {reason}") from error
    return device
