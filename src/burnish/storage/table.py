"""What the tables of Hugging Face share: columns of encoded images, labels and ids.

Columns: ``image`` (or ``img``), a struct of ``bytes`` and ``path``; ``label`` (or ``labels``);
``id`` if ids are not the places in the file. The metadata of the schema may name the classes.
"""

import json
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from io import BytesIO
from itertools import accumulate, islice
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.arrays import to_int64
from burnish.storage.dataset_json import is_names
from burnish.storage.encoded import MAX_BYTES, EncodedFile
from burnish.storage.image_file import inspect
from burnish.storage.sample_file import printable
from burnish.storage.streams import Streams


class Table(ABC):
    """A table on disk, in groups of rows.

    Attributes:
        schema: Its columns.
        counts: Rows of each group.
    """

    schema: pa.Schema
    counts: list[int]

    @abstractmethod
    def cells(self, group: int, column: str) -> Iterator[pa.Array]:
        """Yield the encoded images of a group in small pieces, as binary arrays."""

    @abstractmethod
    def column(self, name: str, field: str = "") -> Iterator[pa.Array]:
        """Yield a column without images, or one field of its structs, in pieces."""


class TableFile(EncodedFile):
    """Samples of a table.

    The first image sets the size and gray or RGB; the others are checked when they are decoded.
    """

    def __init__(self, path: Path, batch_size: int, table: Table) -> None:
        self.path, self._table = path, table
        schema, num_images = table.schema, sum(table.counts)
        structs = [field.name for field in schema if pa.types.is_struct(field.type)]
        column = next((name for name in ("image", "img") if name in structs), "")
        kind = schema.field(column).type if column else pa.struct([])
        if kind.get_field_index("bytes") < 0 or not _is_binary(kind.field("bytes").type):
            columns = (
                f"{printable(field.name)} ({printable(field.type)[:40]})" for field in schema
            )
            held = ", ".join(islice(columns, 20)) or "none"
            wanted = "needs a column image (or img), a struct with bytes of PNG or JPEG"
            raise InputError(f"{path}: {wanted}; its columns are {held}")
        if not num_images:
            raise InputError(f"{path} holds no images")
        self._streams = Streams(lambda: _Cells(path, table, column), num_images)
        _, first = next(self._encoded([0]))
        label = next((name for name in ("label", "labels") if name in schema.names), None)
        # Ids of other data sets may be text.
        has_ids = "id" in schema.names and pa.types.is_integer(schema.field("id").type)
        names: list[str] | None = None
        if kind.get_field_index("path") >= 0 and pa.types.is_string(kind.field("path").type):
            names = self._names(column)
        super().__init__(
            path,
            batch_size,
            image_shape=inspect(first, f"{path}: image 0"),
            num_images=num_images,
            labels=self._integers(label) if label else None,
            ids=self._integers("id") if has_ids else None,
            names=names,
            classes=_classes(schema, label) if label else None,
        )

    def _encoded(self, places: Sequence[int]) -> Iterator[tuple[str, BytesIO]]:
        if isinstance(places, range):
            with self._streams.at(places.start) as cells:
                encoded = cells.read(len(places))
        else:
            found: dict[int, bytes] = {}
            for place in sorted(set(places)):
                with self._streams.at(place) as cells:
                    found[place] = cells.read(1)[0]
            encoded = [found[place] for place in places]
        for place, content in zip(places, encoded, strict=True):
            yield f"{self.path}: image {place}", BytesIO(content)

    def _integers(self, column: str) -> Tensor:
        """Read a column of one integer per image, int64 ``[N]``."""
        values = []
        for numbers in self._table.column(column):
            what, count = f"column {column}", numbers.null_count
            if count or not pa.types.is_integer(numbers.type):
                held = (
                    f"misses {count} of its values"
                    if count
                    else f"holds {printable(numbers.type)[:40]}"
                )
                raise InputError(f"{self.path}: {what} {held}; every image needs an integer")
            values.append(to_int64(self.path, what, numbers.to_numpy(zero_copy_only=False)))
        return torch.cat(values)

    def _names(self, column: str) -> list[str] | None:
        """Return the paths of the images if each has one of its own."""
        names: list[str] = []
        for paths in self._table.column(column, "path"):
            if paths.null_count:
                return None
            names += paths.to_pylist()
        relative = not any(name.startswith("/") or ".." in name for name in names)
        return names if relative and all(names) and len(set(names)) == len(names) else None


class _Cells:
    """The encoded images of a table, in order; a whole group is never in memory."""

    def __init__(self, path: Path, table: Table, column: str) -> None:
        self.place = 0
        self._path, self._table, self._column = path, table, column
        self._ends = list(accumulate(table.counts))
        self._rows: Iterator[bytes | None] = iter(())
        self._end = 0  # of the group that is open

    def read(self, count: int) -> list[bytes]:
        """Return the next images."""
        cells: list[bytes] = []
        for _ in range(count):
            if self.place == self._end:
                self._open()
            cell = next(self._rows)
            if cell is None:
                raise InputError(f"{self._path}: image {self.place} has no bytes; embed them")
            if len(cell) > MAX_BYTES:
                raise InputError(f"{self._path}: image {self.place} of {len(cell)} bytes")
            cells.append(cell)
            self.place += 1
        return cells

    def seek(self, place: int) -> None:
        """Go to an image."""
        if place == self.place:
            return
        if not self.place <= place < self._end:
            self.place = place
            self._open()
        for _ in range(place - self.place):
            next(self._rows)
        self.place = place

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._rows, Generator):
            self._rows.close()

    def _open(self) -> None:
        """Open the group of the present place at its image."""
        self.close()
        group = bisect_right(self._ends, self.place)
        self._end = self._ends[group]
        self._rows = self._read_group(group)
        for _ in range(self.place - (self._end - self._table.counts[group])):
            next(self._rows)

    def _read_group(self, group: int) -> Generator[bytes | None]:
        for piece in self._table.cells(group, self._column):
            yield from piece.to_pylist()


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _classes(schema: pa.Schema, label: str) -> list[str] | None:
    """Return the names of a ``ClassLabel`` in the metadata that ``datasets`` writes."""
    try:
        held = json.loads((schema.metadata or {})[b"huggingface"])
        names = held["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return names if is_names(names) and names else None
