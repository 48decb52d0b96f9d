"""Samples as the data sets of EDM and StyleGAN: a ``.zip`` of images with a ``dataset.json``.

Written as their ``dataset_tool.py`` does: PNG files ``00000/img00000000.png``, not compressed
again, and the labels last. Read: images in any folders, in the order of their names.
"""

import zipfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.storage import dataset_json
from burnish.storage.encoded import PackedFile
from burnish.storage.folder_names import ids_of
from burnish.storage.image_file import encode_pngs
from burnish.storage.sample_file import IMAGE_SUFFIXES, printable
from burnish.storage.zip_index import Member, list_members, unpack


class Reader(PackedFile):
    """Samples of a zip; without a ``dataset.json`` they have no labels."""

    def __init__(self, path: Path, batch_size: int) -> None:
        names, columns, facts_member = _index(path)
        # The names ascend in what dataset_tool writes; sorting keeps that order then.
        order = sorted(range(len(names)), key=names.__getitem__)
        names = [names[i] for i in order]
        self._columns = [array("q", (values[i] for i in order)) for values in columns]
        offsets, packed, unpacked, *_ = self._columns
        sizes = array("q", map(max, packed, unpacked))
        facts = dataset_json.Facts(None, None, None)
        if facts_member:
            if facts_member.size > dataset_json.MAX_BYTES:
                raise InputError(f"{path}: {dataset_json.NAME} of {facts_member.size} bytes")
            with path.open("rb") as file:
                content = unpack(file, facts_member, f"{path}: {dataset_json.NAME}")
            facts = dataset_json.read_facts(path, content, names)
        super().__init__(
            path, batch_size, names, offsets, sizes, labels=facts.labels,
            ids=ids_of(names) if facts.ids is None else facts.ids, names=names,
            classes=facts.classes,
        )  # fmt: skip

    def _unpack(self, file: IO[bytes], place: int, name: str) -> bytes:
        return unpack(file, Member("", *(column[place] for column in self._columns)), name)


def _index(path: Path) -> tuple[list[str], list["array[int]"], Member | None]:
    """Return the names of the images, their numbers as columns, and where the labels are."""
    names: list[str] = []
    columns: list[array[int]] = [array("q") for _ in range(5)]
    facts: Member | None = None
    for member in list_members(path):
        if member.name == dataset_json.NAME:
            facts = member
        base = member.name.rpartition("/")[2]
        if not member.name.lower().endswith(IMAGE_SUFFIXES) or base.startswith("."):
            continue
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise InputError(f"{path}: the name {printable(member.name)} leads out of the zip")
        names.append(member.name)
        for column, value in zip(columns, member[1:], strict=True):
            column.append(value)
    return names, columns, facts


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: object,
    classes: Sequence[str] | None,
) -> None:  # fmt: skip
    """Write samples as dataset_tool does; names have no place there, so they are ignored."""
    del names, num_images
    labels: array[int] = array("q")
    ids: array[int] = array("q")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.filelist = members = _Members()  # pyright: ignore[reportAttributeAccessIssue]
        for batch in samples:
            if batch.labels is not None:
                labels.extend(batch.labels.tolist())
            for content, id in zip(encode_pngs(batch.images), batch.ids.tolist(), strict=True):
                archive.writestr(_info(_name(len(ids))), content)
                archive.NameToInfo.clear()
                ids.append(id)
        needed = ids if any(id != place for place, id in enumerate(ids)) else None
        members.last = _info(dataset_json.NAME)
        with archive.open(members.last, "w", force_zip64=True) as file:
            every = (_name(place) for place in range(len(ids)))
            for piece in dataset_json.facts_text(every, labels or None, needed, classes):
                file.write(piece.encode())


class _Members:
    """The members of a zip that is written; ``zipfile`` would keep half a kilobyte of each.

    They are the images, in order, and ``last``.
    """

    def __init__(self) -> None:
        self.last: zipfile.ZipInfo | None = None
        self._columns: list[array[int]] = [array("q") for _ in range(4)]

    def append(self, info: zipfile.ZipInfo) -> None:
        if info is not self.last:
            values = (info.CRC, info.file_size, info.header_offset, info.external_attr)
            for column, value in zip(self._columns, values, strict=True):
                column.append(value)

    def __len__(self) -> int:
        return len(self._columns[0]) + (self.last is not None)

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        for place, values in enumerate(zip(*self._columns, strict=True)):
            info = _info(_name(place))
            info.CRC, info.file_size, info.header_offset, info.external_attr = values
            info.compress_size = info.file_size  # stored
            yield info
        if self.last:
            yield self.last


def _name(place: int) -> str:
    return f"{place // 1000:05d}/img{place:08d}.png"


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # otherwise Windows and Unix write different bytes
    return info
