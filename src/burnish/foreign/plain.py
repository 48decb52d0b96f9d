"""From what was read to plain values: tensors in place of views, arrays of numpy as such."""

from typing import Any

from burnish.errors import InputError
from burnish.foreign.names import DTYPES, Maker
from burnish.foreign.values import Array, Dtype, Name, Persistent, Stub, View

MAX_DEPTH = 100
MAX_ITEMS = 10_000_000


class Plain:
    """Turns the value of a pickle into plain ones; what was one object before is one after.

    Args:
        maker: Knows what has been ignored.
    """

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        # The original too, which keeps its id from being given to another one.
        self._done: dict[int, tuple[Any, Any, int]] = {}

    def value(self, value: Any) -> Any:
        """Return the plain value.

        Raises:
            InputError: It is too deep, refers to itself, or has too many items when each is
                counted as often as it occurs.
        """
        return self._turn(value, 0)[0]

    def _turn(self, value: Any, depth: int) -> tuple[Any, int]:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return value, 1
        if depth > MAX_DEPTH:
            raise InputError(f"it is nested more than {MAX_DEPTH} deep")
        if (done := self._done.get(id(value))) is not None:
            if not done[2]:
                raise InputError("a part of it refers to itself")
            return done[1:]
        self._done[id(value)] = value, None, 0
        made, size = self._make(value, depth + 1)
        if size > MAX_ITEMS:
            raise InputError("it unpacks into far more than it holds; not read")
        self._done[id(value)] = value, made, size
        return made, size

    def _make(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, View):
            return value.tensor(), 1
        if isinstance(value, Array):
            return (Stub("numpy.ndarray") if value.values is None else value.values), 1
        if isinstance(value, Name):
            return DTYPES.get(value.text) or self._maker.stub(value), 1
        if isinstance(value, Dtype):
            return Stub("numpy.dtype"), 1
        if isinstance(value, Stub | Persistent):
            value.state, size = self._turn(value.state, depth)
            return value, size + 1
        if isinstance(value, dict):
            pairs = {key: self._turn(one, depth) for key, one in value.items()}
            plain = {self._key(key): one for key, (one, _) in pairs.items()}
            return plain, 1 + sum(size for _, size in pairs.values())
        if isinstance(value, list | tuple | set | frozenset):
            items = [self._turn(one, depth) for one in value]
            kind = type(value) if type(value) in (list, tuple) else list
            return kind(one for one, _ in items), 1 + sum(size for _, size in items)
        if isinstance(value, bytearray):
            return bytes(value), 1
        raise InputError(f"it holds a {type(value).__name__} where a value is expected")

    def _key(self, key: Any) -> Any:
        return key.text if isinstance(key, Name) else key
