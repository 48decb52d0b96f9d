"""The list of a zip's members, one at a time; ``zipfile`` keeps half a kilobyte of each.

Format: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", sections 4.3.7 (local header),
4.3.12 (central directory), 4.3.14 to 4.3.16 (its end), 4.5.3 (sizes of 64 bits).
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from burnish.errors import InputError

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8


class Member(NamedTuple):
    """One file in a zip."""

    name: str
    offset: int
    """Of its local header."""
    packed: int
    """Bytes in the zip."""
    size: int
    """Bytes unpacked."""
    crc: int
    method: int


def list_members(path: Path) -> Iterator[Member]:
    """Yield the members of a zip in the order of its directory; folders are left out.

    Raises:
        InputError: The zip is damaged, encrypted or compressed in an uncommon way.
    """
    try:
        with path.open("rb") as file:
            yield from _members(path, file)
    except (struct.error, OSError, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path}: broken or not a zip ({error}); fetch it again") from error


def unpack(file: IO[bytes], member: Member, name: str) -> bytes:
    """Return the content of a member, not more than it announces, and check its sum.

    Args:
        file: The zip.
        member: What to read.
        name: The name for messages.
    """
    try:
        file.seek(member.offset)
        header = _LOCAL.unpack(file.read(_LOCAL.size))
        if header[0] != b"PK\3\4":
            raise ValueError("no header")
        file.seek(member.offset + _LOCAL.size + header[-2] + header[-1])
        content = file.read(member.packed)
        if member.method == _DEFLATED:
            content = zlib.decompressobj(-15).decompress(content, member.size + 1)
        if len(content) != member.size or zlib.crc32(content) != member.crc:
            raise ValueError("its size or sum is not the one announced")
    except (struct.error, OSError, ValueError, zlib.error) as error:
        raise InputError(f"{name} is damaged ({error}); fetch the zip again") from error
    return content


def _members(path: Path, file: IO[bytes]) -> Iterator[Member]:
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - _END.size - 2**16))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0:
        raise struct.error("no directory at its end")
    end_at = length - len(tail) + at
    *_, count, size, offset, _ = _END.unpack_from(tail, at)
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        end_at = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)[2]
        file.seek(end_at)
        sign, *_, count, size, offset = _END_64.unpack(file.read(_END_64.size))
        if sign != b"PK\6\6":
            raise struct.error("no directory of 64 bits")
    # Something may lie before the zip; offsets count from where the zip begins.
    begin = end_at - size - offset
    if begin < 0 or count * _ENTRY.size > size:
        raise struct.error("its directory does not fit")
    file.seek(begin + offset)
    for _ in range(count):
        sign, _, _, flags, method, _, _, crc, packed, full, *lengths, _, _, _, where = (
            _ENTRY.unpack(file.read(_ENTRY.size))
        )
        if sign != b"PK\1\2":
            raise struct.error("an entry of its directory is damaged")
        raw, extra = file.read(lengths[0]), file.read(lengths[1])
        file.seek(lengths[2], os.SEEK_CUR)
        full, packed, where = _sizes_64(extra, full, packed, where)
        name = raw.decode("utf-8" if flags & 0x800 else "cp437", "surrogateescape")
        if name.endswith("/"):
            continue
        if flags & 1 or method not in (_STORED, _DEFLATED):
            raise InputError(f"{path}: encrypted, or not packed by deflate; write it again")
        # Deflate packs 1032 bytes into one at best.
        if begin + where + packed > length or full > packed * (1032 if method else 1):
            raise struct.error("a member is larger than can be")
        yield Member(name.replace("\\", "/"), begin + where, packed, full, crc, method)


def _sizes_64(extra: bytes, *values: int) -> list[int]:
    """Return full size, packed size and offset, those that do not fit 32 bits from the extra."""
    wide: Iterator[int] = iter(())
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, 4))
        extra = extra[4 + length :]
    try:
        return [next(wide) if value == 0xFFFFFFFF else value for value in values]
    except StopIteration:
        raise struct.error("a size of 64 bits is missing") from None
