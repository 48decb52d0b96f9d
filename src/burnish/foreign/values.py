"""What a checkpoint's pickle is read into: plain values, and inert stand-ins for the rest."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError, shown

_DTYPE = re.compile(r"(\?|b1|[biu][1248]|f[248]|c8|c16)")


@dataclass(frozen=True)
class Name:
    """A function or class that a file names; nothing is imported for it."""

    text: str


@dataclass(eq=False)
class Stub:
    """An object of a class that is not read: its name, and what the file says it holds."""

    name: str
    state: Any = None


@dataclass(eq=False)
class Persistent:
    """An object that NVIDIA's ``torch_utils.persistence`` saved; its source code was not read."""

    class_name: str
    state: Any = None


@dataclass(eq=False)
class Storage:
    """Numbers of one type in a row, which tensors are views of."""

    dtype: torch.dtype
    count: int
    start: int = 0
    data: Tensor | None = None
    root: "Storage | None" = None

    def values(self) -> Tensor:
        """Return them, ``[count]``; they must have been read from the file."""
        whole = (self.root or self).data
        if whole is None:
            raise InputError("it names numbers that it does not hold; fetch it again")
        return whole.view(self.dtype)[self.start : self.start + self.count]


@dataclass(eq=False)
class View:
    """A tensor, before its storage has been read."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.size, *self.stride)
        if len(numbers) > 64 or any(type(n) is not int or not 0 <= n < 2**62 for n in numbers):
            raise InputError("a tensor in it has a size, stride or offset that is no whole number")
        if not isinstance(self.storage, Storage) or len(self.size) != len(self.stride):
            raise InputError("a tensor in it has no storage, or not one stride per size")
        count = math.prod(self.size)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if count and (last >= self.storage.count or count > self.storage.count):
            raise InputError(
                f"a tensor in it claims the shape {shown(list(self.size))}, more than its storage "
                f"of {self.storage.count} numbers holds"
            )

    def tensor(self) -> Tensor:
        """Return the tensor; it shares the memory of its storage."""
        values = self.storage.values()
        if 0 in self.size:
            return values.new_empty(self.size)
        return values.as_strided(self.size, self.stride, values.storage_offset() + self.offset)


@dataclass(eq=False)
class Dtype:
    """A type of numpy; ``code`` is empty for what is not plain numbers."""

    code: str
    order: str = "<"

    @classmethod
    def of(cls, code: Any, *_: Any) -> "Dtype":
        """Return the type that numpy's constructor gives for such arguments."""
        return cls(code if isinstance(code, str) and _DTYPE.fullmatch(code) else "")

    def build(self, state: Any) -> None:
        """Take over the order of bytes."""
        if type(state) is tuple and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    def numpy(self) -> np.dtype:
        """Return the type itself; raises InputError for what is not plain numbers."""
        if not self.code:
            raise InputError("an array in it holds other than plain numbers")
        return np.dtype(self.order + self.code if self.order in "<>" else self.code)


@dataclass(eq=False)
class Array:
    """An array of numpy: made of a shape, a type and bytes by our own code."""

    values: np.ndarray | None = field(default=None)

    def build(self, state: Any) -> None:
        """Read numpy's state: (version, shape, type, whether of Fortran order, bytes)."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise InputError("an array in it is not as numpy writes it")
        shape, dtype, fortran, raw = state[-4:]
        if isinstance(raw, str):  # as Python 2 wrote it
            raw = raw.encode("latin1")
        self.fill(raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: Any, dtype: Any, shape: Any, order: Any) -> None:
        """Read an array of a shape from bytes."""
        if not isinstance(dtype, Dtype) or not dtype.code or isinstance(raw, list):
            return  # of objects, or of records
        if type(shape) is not tuple or len(shape) > 32 or any(type(n) is not int for n in shape):
            raise InputError("the shape of an array in it is damaged")
        if type(raw) not in (bytes, bytearray) or order not in ("C", "F"):
            raise InputError("an array in it holds no bytes")
        values = np.frombuffer(raw, dtype.numpy())
        if min(shape, default=0) < 0 or math.prod(shape) != values.size:
            raise InputError(f"an array in it claims the shape {shown(list(shape))}; damaged")
        self.values = values.reshape(shape, order=order)


def check_key(key: Any) -> Any:
    """Return the key of a dictionary; raises InputError for what would be slow to compare."""
    # Hashes of strings differ from run to run. Those of large numbers can be made to collide.
    inside = type(key) is tuple and len(key) <= 16
    for one in key if inside else (key,):
        number = type(one) is int and abs(one) < (2**31 if inside else 2**60)
        number = number or (type(one) is float and not inside)
        if not (number or one is None or type(one) in (str, bool, bytes, Name)):
            raise InputError(f"a key of type {type(one).__name__} in it is not read; damaged")
    return key
