"""Reads checkpoints of others: files of ``torch.save``, old and new, plain pickles, safetensors.

Formats: torch's zip (``NAME/data.pkl`` and ``NAME/data/KEY``, stored); torch's older file (five
pickles, then the storages, each after its length); one pickle of protocol 0 to 5, whose tensors
are bytes that are such older files again. ``torch.load`` is not used, not even with
``weights_only``: it knows no pickles of protocol 4, allocates what a file declares, and one reader
for all files is tested better than two.
"""

import mmap
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch

from burnish.errors import InputError, shown
from burnish.files import path_sha256
from burnish.foreign.names import STORAGES, Maker
from burnish.foreign.pickles import Machine
from burnish.foreign.plain import Plain
from burnish.foreign.values import Name, Storage
from burnish.storage.zip_index import Member, list_members, unpack

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_PICKLE = 2**26  # bytes of data.pkl, which describes the tensors
MAX_MEMBERS = 100_000
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError,
           MemoryError, AssertionError, RuntimeError, OSError,
           struct.error, zlib.error)  # fmt: skip
_LOCAL = struct.Struct("<4s5H3L2H")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    content: Any
    """Dictionaries, lists, tuples, numbers, strings, bytes, tensors, arrays of plain numbers, and
    :class:`~burnish.foreign.values.Persistent` and :class:`~burnish.foreign.values.Stub`; sets are
    lists. Tensors that shared memory share it."""
    ignored: tuple[str, ...]
    """Names of the classes and functions that were not read."""
    sha256: str


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing of it is run, and nothing that it names is imported.

    Memory is a few times the length of the file, whatever it declares.

    Raises:
        InputError: It is damaged, asks for something that no checkpoint needs, or is of a format
            that is not read: TorchScript, torch's oldest (a tar), compressed zips.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        return Checkpoint(_safetensors(path), (), path_sha256(path))
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise InputError("it is empty; fetch it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                reading = _Reading(len(whole))
                value = reading.file(path, file, whole)
                content = Plain(reading.maker).value(value)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except _BROKEN as error:
        raise InputError(
            f"{path}: not a checkpoint, or a damaged one ({shown(str(error))}); fetch it again"
        ) from error
    return Checkpoint(content, tuple(sorted(reading.maker.ignored)), path_sha256(path))


class _Reading:
    """One file being read.

    Args:
        length: Of the file; storages together may not be longer.
    """

    def __init__(self, length: int) -> None:
        self.maker = Maker(self._nested, length)
        self._left, self._depth = length, 0
        self._nested_left = length  # whose storages count among the others, besides

    def file(self, path: Path, file: IO[bytes], whole: mmap.mmap) -> Any:
        if whole[:2] == b"PK":
            return self._zip(path, file, whole)
        if whole[257:262] == b"ustar":
            raise InputError(
                "it is a tar, as torch before 0.1.10 wrote; save it again with a newer torch"
            )
        return self._pickle(whole, memoryview(whole))

    def _pickle(self, stream: Any, content: memoryview) -> Any:
        """Return the value of a plain pickle or of an older file of torch."""
        with content:
            first = Machine(self.maker).run(stream)
            return self._legacy(stream, content) if first == MAGIC else first

    def _nested(self, content: bytes) -> Any:
        self._nested_left -= len(content)
        if self._nested_left < 0:
            raise InputError("files within it are read twice; damaged")
        if self._depth:
            raise InputError("a file within a file within it; not read")
        self._depth += 1
        try:
            return self._pickle(BytesIO(content), memoryview(content))
        finally:
            self._depth -= 1

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise InputError("its storages overlap, or are longer than the file; damaged")

    def _legacy(self, stream: Any, content: memoryview) -> Any:
        roots: dict[Any, Storage] = {}

        def persistent(key: Any) -> Any:
            if type(key) is not tuple or len(key) not in (4, 6):
                raise ValueError("a storage without a place")
            if key[0] in ("module", b"module"):
                return key[1]
            kind, root, _, count, view = key[1:]
            storage = _storage(kind, count)
            known = roots.setdefault(_place(root), storage)
            if (known.dtype, known.count) != (storage.dtype, storage.count):
                raise InputError("a storage in it is of two sizes; damaged")
            if view is None:
                return known
            _, start, length = view
            if not all(type(n) is int and n >= 0 for n in (start, length)):
                raise ValueError("a part of a storage without a place")
            if start + length > known.count:
                raise InputError("a part of a storage reaches beyond it; damaged")
            return Storage(known.dtype, length, start, root=known)

        machine = Machine(self.maker, persistent)
        if machine.run(stream) != PROTOCOL:
            raise InputError("it is of another version of torch's format; not read")
        machine_info = machine.run(stream)
        if isinstance(machine_info, dict) and machine_info.get("little_endian") is False:
            raise InputError("its numbers are big-endian; save it again on another machine")
        value = machine.run(stream)
        keys = machine.run(stream)
        if type(keys) is not list or {_place(key) for key in keys} != set(roots):
            raise InputError("the list of its storages is wrong; damaged")
        at = stream.tell()
        for key in keys:
            storage = roots[str(key)]
            (count,) = struct.unpack_from("<q", content, at)
            if count != storage.count:
                raise InputError("a storage is not of the size that was announced; damaged")
            size = count * storage.dtype.itemsize
            storage.data = self._numbers(content, at + 8, size, storage.dtype)
            at += 8 + size
        return value

    def _zip(self, path: Path, file: IO[bytes], whole: mmap.mmap) -> Any:
        members: dict[str, Member] = {}
        for member in list_members(path):
            if member.name in members or len(members) >= MAX_MEMBERS:
                raise InputError("a zip with one name twice, or too many files; damaged")
            members[member.name] = member
        if any(n.endswith("constants.pkl") or "code" in n.split("/")[:-1] for n in members):
            raise InputError(
                "a TorchScript archive, which is a program; save the state_dict of the model"
            )
        found = [n for n in members if n.split("/")[-1] == "data.pkl" and n.count("/") <= 1]
        if len(found) != 1:
            raise InputError("a zip, but not one of torch.save: no data.pkl in it")
        head = members[found[0]]
        folder = found[0].removesuffix("data.pkl")
        order = members.get(f"{folder}byteorder")
        if order and (order.size > 16 or unpack(file, order, str(path)) != b"little"):
            raise InputError("its numbers are big-endian; save it again on another machine")
        if head.method or head.size > MAX_PICKLE:
            raise InputError("its data.pkl is compressed or too long, unlike torch's; not read")
        known: dict[tuple[str, torch.dtype, int], Storage] = {}
        content = memoryview(whole)

        def persistent(key: Any) -> Any:
            if type(key) is not tuple or len(key) != 5 or key[0] != "storage":
                raise ValueError("a storage without a place")
            storage, name = _storage(key[1], key[4]), _place(key[2])
            place = name, storage.dtype, storage.count
            if place not in known:
                member = members.get(f"{folder}data/{name}")
                size = storage.count * storage.dtype.itemsize
                if member is None or member.method or member.size != size:
                    raise InputError(
                        f"the storage {shown(name)} is missing, compressed, or not of the "
                        f"{size} bytes that are announced; fetch it again"
                    )
                header = _LOCAL.unpack_from(content, member.offset)
                start = member.offset + _LOCAL.size + header[-2] + header[-1]
                storage.data = self._numbers(content, start, size, storage.dtype)
                known[place] = storage
            return known[place]

        with content:
            pickled = BytesIO(unpack(file, head, str(path)))
            return Machine(self.maker, persistent).run(pickled)

    def _numbers(
        self, content: memoryview, start: int, size: int, dtype: torch.dtype
    ) -> torch.Tensor:
        if start + size > len(content):
            raise InputError("it ends within its numbers; fetch it again")
        self._take(size)
        if not size:
            return torch.empty(0, dtype=dtype)
        values = torch.frombuffer(bytearray(content[start : start + size]), dtype=torch.uint8)
        # Any other byte than 0 and 1 in a bool is undefined behavior.
        return values != 0 if dtype == torch.bool else values.view(dtype)


def _place(key: Any) -> str:
    if type(key) not in (str, int):  # which would be slow to write out
        raise ValueError("a storage without a place")
    return str(key)


def _storage(kind: Any, count: Any) -> Storage:
    dtype = STORAGES.get(kind.text) if isinstance(kind, Name) else None
    if dtype is None:
        raise InputError("a tensor in it is of a type that is not read")
    if type(count) is not int or not 0 <= count < 2**48:
        raise InputError("a storage in it has no valid size; damaged")
    return Storage(dtype, count)


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a safetensors file ({shown(str(error))})") from error
