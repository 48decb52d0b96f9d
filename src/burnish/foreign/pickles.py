"""Reads a pickle of any protocol into plain values, by an interpreter that can call nothing.

``pickle.Unpickler`` is not used, not even restricted: here a call in the file is looked up in the
list of :mod:`burnish.foreign.names` and answered by our own code. Opcodes and their arguments are
cut by ``pickletools``, which never acts on them. Memory is bounded by the length of the file and
by :data:`MAX_OPCODES`, as each opcode adds at most one object.
"""

from collections.abc import Callable
from pickletools import genops
from typing import Any

from burnish.errors import InputError
from burnish.foreign.names import Maker
from burnish.foreign.values import Array, Dtype, Name, Persistent, Stub, View, check_key

MAX_OPCODES = 3_000_000
MAX_BITS = 256  # of an integer; the magic number of torch's older files has 80
_CONSTANTS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING UNICODE "
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8".split()
)
_PLAIN: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set,
}  # fmt: skip


class Machine:
    """The stack, the marks and the memo of one pickle after the other.

    Args:
        maker: Makes what the file calls for.
        persistent: Makes what a persistent id stands for; None where there must be none.
    """

    def __init__(self, maker: Maker, persistent: Callable[[Any], Any] | None = None) -> None:
        self._maker, self._persistent = maker, persistent
        self._count = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        """Return the value of the pickle that begins where a stream stands, and stop behind it.

        Raises:
            InputError: It asks for something that is not read from checkpoints.
            ValueError, LookupError, TypeError: It is damaged.
        """
        self._stack, self._marks, self._memo = [], [], {}
        for opcode, arg, _ in genops(stream):
            self._count += 1
            if self._count > MAX_OPCODES:
                raise InputError(f"it has more than {MAX_OPCODES:,} opcodes; not read")
            name = opcode.name
            if name in _CONSTANTS:
                if type(arg) is int and arg.bit_length() > MAX_BITS:
                    raise InputError("an integer in it is too long")
                self._stack.append(arg)
            elif name in _PLAIN:
                self._stack.append(_PLAIN[name]())
            elif name == "STOP":
                return self._stack.pop()
            else:
                step = getattr(self, f"_{name.lower()}", None)
                if step is None:
                    raise InputError(f"its pickle uses the opcode {name}, which is not read")
                step(arg)
        raise ValueError("it ends too early")

    def _proto(self, arg: Any) -> None:
        if arg > 5:
            raise InputError(f"its pickle is of protocol {arg}; up to 5 is read")

    def _frame(self, arg: Any) -> None:
        pass

    def _mark(self, arg: Any) -> None:
        self._marks.append(len(self._stack))

    def _marked(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _pop(self, arg: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _pop_mark(self, arg: Any) -> None:
        self._marked()

    def _dup(self, arg: Any) -> None:
        self._stack.append(self._stack[-1])

    def _get(self, arg: Any) -> None:
        self._stack.append(self._memo[arg])

    def _put(self, arg: Any) -> None:
        self._memo[arg] = self._stack[-1]

    _binget = _long_binget = _get
    _binput = _long_binput = _put

    def _memoize(self, arg: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _list(self, arg: Any) -> None:
        self._stack.append(self._marked())

    def _tuple(self, arg: Any) -> None:
        self._stack.append(tuple(self._marked()))

    def _tuple1(self, arg: Any) -> None:
        self._stack[-1:] = [(self._stack[-1],)]

    def _tuple2(self, arg: Any) -> None:
        self._stack[-2:] = [(self._stack[-2], self._stack[-1])]

    def _tuple3(self, arg: Any) -> None:
        self._stack[-3:] = [(self._stack[-3], self._stack[-2], self._stack[-1])]

    def _frozenset(self, arg: Any) -> None:
        self._stack.append(frozenset(check_key(one) for one in self._marked()))

    def _dict(self, arg: Any) -> None:
        items = self._marked()
        self._stack.append({})
        self._set(items)

    def _append(self, arg: Any) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, arg: Any) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Stub):
            raise ValueError(f"it appends to a {type(target).__name__}")

    def _setitem(self, arg: Any) -> None:
        value = self._stack.pop()
        self._set([self._stack.pop(), value])

    def _setitems(self, arg: Any) -> None:
        self._set(self._marked())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            if isinstance(target, Stub):
                return
            raise ValueError(f"it sets an item of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[check_key(key)] = value

    def _additems(self, arg: Any) -> None:
        items = self._marked()
        target = self._stack[-1]
        if type(target) is not set:
            raise ValueError(f"it adds items to a {type(target).__name__}")
        target.update(check_key(one) for one in items)

    def _global(self, arg: Any) -> None:
        module, _, name = arg.partition(" ")
        self._stack.append(self._maker.name(module, name))

    def _stack_global(self, arg: Any) -> None:
        name = self._stack.pop()
        self._stack.append(self._maker.name(self._stack.pop(), name))

    def _inst(self, arg: Any) -> None:
        module, _, name = arg.partition(" ")
        args = tuple(self._marked())
        self._stack.append(self._maker.call(self._maker.name(module, name), args))

    def _obj(self, arg: Any) -> None:
        what, *args = self._marked()
        self._stack.append(self._maker.call(what, tuple(args)))

    def _reduce(self, arg: Any) -> None:
        args = self._stack.pop()
        self._stack.append(self._maker.call(self._stack.pop(), args))

    _newobj = _reduce

    def _newobj_ex(self, arg: Any) -> None:
        self._stack.pop()  # named arguments, which no maker takes
        self._reduce(arg)

    def _build(self, arg: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Array | Dtype):
            if type(state) is tuple and state and isinstance(state[-1], str):
                self._maker.take(len(state[-1]))  # which are made bytes
            target.build(state)
        elif isinstance(target, Stub):
            target.state = state
        # The attributes of a dictionary or parameter (state dicts carry _metadata) are not needed.
        elif not isinstance(target, dict | set | View | Persistent) or isinstance(target, Name):
            raise ValueError(f"it sets attributes of a {type(target).__name__}")

    def _persid(self, arg: Any) -> None:
        if self._persistent is None:
            raise InputError("its pickle refers to things outside of it, which are not there")
        self._stack.append(self._persistent(arg))

    def _binpersid(self, arg: Any) -> None:
        self._persid(self._stack.pop())
