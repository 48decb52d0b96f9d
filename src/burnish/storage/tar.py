"""Samples as shards of WebDataset: a ``.tar`` whose members of one key make one sample.

The key is the path up to the first dot of the file name: ``000007.png`` is the image of
``000007``, ``000007.cls`` its label in digits, ``000007.json`` an object with ``label`` and, where
burnish wrote it, ``id`` and ``name``. Members of one key follow each other. Other members are
skipped, and nothing is extracted. A tar ends in two blocks of zeros; one without them is cut.
"""

import json
import os
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.storage.encoded import PackedFile
from burnish.storage.image_file import encode_pngs
from burnish.storage.sample_file import IMAGE_SUFFIXES, printable

_MAX_SIDE = 2**20  # bytes of a label, a JSON or a header of the tar itself
_MAX_PADDING = 2**24  # zeros at the end
_BROKEN = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError)


class Reader(PackedFile):
    """Samples of one shard, in the order of the tar."""

    def __init__(self, path: Path, batch_size: int) -> None:
        self.path = path
        # Names, labels, ids, and names before burnish numbered them, as they are found.
        self._found: list[str] = []
        self._labels: array[int] = array("q")
        self._ids: array[int] = array("q")
        self._renamed: dict[int, str] = {}
        offsets: array[int] = array("q")
        sizes: array[int] = array("q")
        try:
            with path.open("rb") as file:
                for image, side in self._samples_of(file):
                    offsets.append(image.offset_data)
                    sizes.append(image.size)
                    self._note(image.name, side)
        except InputError:
            raise
        except _BROKEN as error:
            raise InputError(f"{path}: broken or not a tar ({error}); fetch it again") from error
        count = len(self._found)
        names = list(self._found)
        for place, name in self._renamed.items():
            names[place] = name
        has_ids = any(id != place for place, id in enumerate(self._ids))
        super().__init__(
            path, batch_size, self._found, offsets, sizes,
            labels=torch.tensor(self._labels) if self._labels else None,
            ids=torch.tensor(self._ids) if has_ids else None,
            names=names if len(set(names)) == count else None,
        )  # fmt: skip

    def _samples_of(self, file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, dict[str, Any]]]:
        """Yield the image and the other facts of each sample."""
        key, image, side = "", None, {}
        for member in _members(self.path, file):
            folder, slash, base = member.name.rpartition("/")
            stem, _, kind = base.partition(".")
            if base.startswith("."):
                continue
            if member.name.startswith("/") or ".." in member.name.split("/"):
                raise InputError(f"{self.path}: {printable(member.name)} leads out of the tar")
            if folder + slash + stem != key:
                if image:
                    yield image, side
                key, image, side = folder + slash + stem, None, {}
            is_image = f".{kind}".lower().endswith(IMAGE_SUFFIXES)
            if not is_image and kind.lower() not in ("cls", "json"):
                continue
            if not member.isreg() or member.issparse():
                said = "is a link, a device or sparse; pack the file itself (tar --dereference)"
                raise InputError(f"{self.path}: {printable(member.name)} {said}")
            if is_image:
                if image:
                    some = f"{printable(image.name)}, {printable(member.name)}"
                    raise InputError(f"{self.path}: two images of one key ({some}); keep one")
                image = member
                continue
            if member.size > _MAX_SIDE:
                raise InputError(f"{self.path}: {printable(member.name)} of {member.size} bytes")
            file.seek(member.offset_data)
            side |= self._read_side(member.name, kind.lower(), file.read(member.size))
        if image:
            yield image, side

    def _read_side(self, name: str, kind: str, content: bytes) -> dict[str, Any]:
        where = f"{self.path}: {printable(name)}"
        try:
            held = {"label": int(content)} if kind == "cls" else json.loads(content)
        except (ValueError, RecursionError) as error:
            wanted = "a number" if kind == "cls" else "JSON"
            raise InputError(f"{where} is not {wanted}") from error
        held = held if isinstance(held, dict) else {}
        known = {field: held[field] for field in ("label", "id", "name") if field in held}
        for field in ("label", "id"):
            value = known.get(field, 0)
            if type(value) is not int or not -(2**63) <= value < 2**63:
                raise InputError(f"{where}: the {field} {printable(value)[:40]} is not an integer")
        return known

    def _note(self, name: str, side: dict[str, Any]) -> None:
        place = len(self._found)
        if "label" in side:
            if len(self._labels) < place:
                raise InputError(
                    f"{self.path}: {printable(self._found[0])} has no label, others do"
                )
            self._labels.append(side["label"])
        elif self._labels:
            raise InputError(f"{self.path}: {printable(name)} has no label, others do")
        self._ids.append(side.get("id", place))
        if isinstance(side.get("name"), str):
            self._renamed[place] = side["name"]
        self._found.append(name)


def _members(path: Path, file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar but folders; what its headers announce must be there."""
    length = os.fstat(file.fileno()).st_size
    with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # pyright: ignore
        while member := archive.next():
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
            if member.isreg() and member.offset_data + member.size > length:
                raise EOFError(f"{printable(member.name)} ends early")
            if not member.isdir():
                yield member
        _check_end(path, file, archive.offset)  # pyright: ignore[reportAttributeAccessIssue]


def _check_end(path: Path, file: IO[bytes], begin: int) -> None:
    """Refuse a tar that does not end in zeros where ``tarfile`` has found its last member.

    ``tarfile`` stops without a word at a header whose sum is wrong.
    """
    file.seek(begin)
    rest = file.read(_MAX_PADDING + 1)
    zeros = len(rest) - len(rest.lstrip(b"\0"))
    if zeros < len(rest):
        block = begin + zeros - zeros % tarfile.BLOCKSIZE
        head = rest[block - begin :][: tarfile.BLOCKSIZE]
        if block - begin >= 2 * tarfile.BLOCKSIZE and head[257:262] == b"ustar":
            said = "name several as a pattern (part-*.tar) instead of joining them"
            raise InputError(f"{path}: another tar follows at byte {block}; {said}")
        raise tarfile.ReadError(f"no header at byte {block}")
    if zeros < 2 * tarfile.BLOCKSIZE:
        raise EOFError("it ends without the two empty blocks of a whole tar")
    if zeros > _MAX_PADDING:
        raise tarfile.ReadError(f"more than {_MAX_PADDING} zeros at its end")


class _Headers:
    """A file from which ``tarfile`` reads headers; none of them is as long as an attack."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int) -> bytes:
        if size > _MAX_SIDE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: Sequence[str] | None,
    classes: object,
) -> None:  # fmt: skip
    """Write samples as one shard whose keys count up; the names of classes have no place there."""
    del classes
    width = max(6, len(str(num_images - 1)))
    place = 0
    with tarfile.open(target, "w") as archive:

        def add(kind: str, content: bytes) -> None:
            member = tarfile.TarInfo(f"{place:0{width}d}.{kind}")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]

        for batch in samples:
            labels = None if batch.labels is None else batch.labels.tolist()
            ids = batch.ids.tolist()
            for row, content in enumerate(encode_pngs(batch.images)):
                add("png", content)
                if labels:
                    add("cls", str(labels[row]).encode())
                facts = {"id": ids[row]} if ids[row] != place else {}
                if names:
                    facts["name"] = names[place]
                if facts:
                    add("json", json.dumps(facts).encode())
                place += 1
