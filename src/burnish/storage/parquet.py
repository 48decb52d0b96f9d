"""Samples as Hugging Face stores them: ``.parquet`` with encoded images and integer labels.

Columns: ``image`` (or ``img``), a struct of ``bytes`` and ``path``; ``label`` (or ``labels``);
``id`` if ids are not the places in the file. A data set may be split over several files.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.image_file import inspect, read_pixels, write_png
from burnish.storage.sample_file import SampleFile
from burnish.storage.streams import Streams


class Reader(SampleFile):
    """Samples of ``.parquet`` files, one file after the other.

    The first image sets the size and gray or RGB; the others are checked when they are decoded.
    """

    def __init__(self, path: Path, batch_size: int) -> None:
        self.path = path
        self._parts = _find_parts(path)
        if not self._parts:
            raise InputError(f"{path}: no such file or folder; check the path")
        with _opened(self._parts[0]) as file:
            schema = file.schema_arrow
        # Of each row group: the place behind its last image, its file, its number in there.
        self._groups: list[tuple[int, Path, int]] = []
        num_images = 0
        for part in self._parts:
            with _opened(part) as file:
                if not file.schema_arrow.equals(schema):
                    raise InputError(
                        f"{part}: columns unlike {self._parts[0].name}; give one of them"
                    )
                for group in range(file.num_row_groups):
                    num_images += file.metadata.row_group(group).num_rows
                    self._groups.append((num_images, part, group))
        structs = [field.name for field in schema if pa.types.is_struct(field.type)]
        self._column = next((name for name in ("image", "img") if name in structs), "")
        if not self._column:
            held = ", ".join(schema.names)
            raise InputError(f"{path}: no column image or img of encoded images, only {held}")
        if not num_images:
            raise InputError(f"{path} holds no images")
        self._streams = Streams(lambda: _Cells(path, self._groups, self._column), num_images)
        with self._streams.at(0) as cells:
            first = cells.read(1)[0]
        label = next((name for name in ("label", "labels") if name in schema.names), None)
        # Ids of other data sets may be text.
        has_ids = "id" in schema.names and pa.types.is_integer(schema.field("id").type)
        super().__init__(
            path,
            batch_size,
            image_shape=inspect(BytesIO(first), f"{path}: image 0"),
            num_images=num_images,
            labels=self._integers(label) if label else None,
            ids=self._integers("id") if has_ids else None,
        )

    def _images(self, places: Sequence[int]) -> Tensor:
        if isinstance(places, range):
            with self._streams.at(places.start) as cells:
                return self._decode(places, cells.read(len(places)))
        found: dict[int, bytes] = {}
        for place in sorted(set(places)):
            with self._streams.at(place) as cells:
                found[place] = cells.read(1)[0]
        return self._decode(places, [found[place] for place in places])

    def _decode(self, places: Sequence[int], encoded: Sequence[bytes]) -> Tensor:
        """Decode cells to images ``[len(places), C, H, W]``."""
        pixels = torch.empty(len(places), *self.image_shape, dtype=torch.uint8)
        for row, (place, data) in enumerate(zip(places, encoded, strict=True)):
            name = f"{self.path}: image {place}"
            pixels[row] = read_pixels(BytesIO(data), name, self.image_shape)
        return from_uint8(pixels)

    def _integers(self, column: str) -> Tensor:
        """Read a column of one integer per image from all files, int64 ``[N]``."""
        values = []
        for part in self._parts:
            with _opened(part) as file:
                numbers = file.read([column]).column(0)
            if not pa.types.is_integer(numbers.type) or numbers.null_count:
                held = f"column {column} holds {numbers.type}, {numbers.null_count} missing"
                raise InputError(f"{part}: {held}; every image needs an integer")
            values.append(numbers.to_numpy().astype(np.int64))
        return torch.from_numpy(np.concatenate(values))


class _Cells:
    """The encoded images of parquet files, in order; a whole row group is never in memory."""

    def __init__(self, path: Path, groups: list[tuple[int, Path, int]], column: str) -> None:
        self.place = 0
        self._path, self._groups, self._column = path, groups, column
        self._rows: Iterator[bytes | None] = iter(())
        self._end = 0  # of the row group that is open

    def read(self, count: int) -> list[bytes]:
        """Return the next images."""
        cells: list[bytes] = []
        for _ in range(count):
            if self.place == self._end:
                self._open()
            cell = next(self._rows)
            if cell is None:
                raise InputError(f"{self._path}: image {self.place} has no bytes; embed them")
            cells.append(cell)
            self.place += 1
        return cells

    def seek(self, place: int) -> None:
        """Go to an image."""
        if not self.place <= place < self._end:
            self.place = self._end = place
            self._open()
        while self.place < place:
            next(self._rows)
            self.place += 1

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._rows, Generator):
            self._rows.close()

    def _open(self) -> None:
        """Open the row group of the present place at its first image."""
        self.close()
        index = bisect_right(self._groups, self.place, key=lambda group: group[0])
        self._end, part, group = self._groups[index]
        first = self._groups[index - 1][0] if index else 0
        self._rows = self._read_group(part, group)
        for _ in range(self.place - first):
            next(self._rows)

    def _read_group(self, part: Path, group: int) -> Iterator[bytes | None]:
        with _opened(part) as file:
            for batch in file.iter_batches(64, [group], [f"{self._column}.bytes"]):
                yield from batch.column(0).field("bytes").to_pylist()


def _find_parts(path: Path) -> list[Path]:
    """Return the ``.parquet`` files of a file, a folder or a pattern, all of one split."""
    if not path.is_dir() and "*" not in path.name:
        return [path] if path.exists() else []
    folder, pattern = (path, "*.parquet") if path.is_dir() else (path.parent, path.name)
    parts = sorted(part for part in folder.glob(pattern) if not part.name.startswith("."))
    matches = [re.match(r"(.+)-\d+-of-", part.stem) for part in parts]
    splits = sorted({match[1] for match in matches if match})
    if len(splits) > 1:
        some = folder / f"{splits[0]}-*.parquet"
        raise InputError(f"{path} holds the splits {', '.join(splits)}; name one, e.g. '{some}'")
    return parts


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: Sequence[str] | None
) -> None:
    """Write samples as PNG, with ``names`` as the paths; equal samples give equal bytes."""
    del num_images
    ids: list[int] = []
    rows = _rows(samples, ids, names)
    group = list(islice(rows, 256))
    layout = _layout(list(group[0]))
    with pq.ParquetWriter(target, layout, use_dictionary=False) as writer:
        while group:
            writer.write_table(pa.Table.from_pylist(group, layout))
            group = list(islice(rows, 256))
    if ids != list(range(len(ids))):
        _add_ids(target, ids, _layout([*layout.names, "id"]))


def _add_ids(target: Path, ids: list[int], layout: pa.Schema) -> None:
    """Rewrite a file with a column more; only at its end is it known whether it needs one."""
    with (
        write_aside(target) as aside,
        _opened(target) as file,
        pq.ParquetWriter(aside, layout, use_dictionary=False) as writer,
    ):
        for index in range(file.num_row_groups):
            table = file.read_row_group(index)
            part = [ids[index * 256 : index * 256 + len(table)]]
            writer.write_table(table.append_column(layout.field("id"), part).cast(layout))


def _rows(
    samples: Iterator[Samples], ids: list[int], names: Sequence[str] | None
) -> Iterator[dict[str, object]]:
    """Yield one row per image, and append its id to ``ids``."""
    for batch in samples:
        labels = None if batch.labels is None else batch.labels.tolist()
        for row, pixels in enumerate(to_uint8(batch.images)):
            write_png(pixels, encoded := BytesIO())
            cell = {"bytes": encoded.getvalue(), "path": names[len(ids)] if names else None}
            ids.append(int(batch.ids[row]))
            yield {"image": cell} if labels is None else {"image": cell, "label": labels[row]}


def _layout(columns: Sequence[str]) -> pa.Schema:
    """Return the schema of these columns; its metadata lets ``datasets`` decode the images."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    number = {"_type": "Value", "dtype": "int64"}
    features = {name: {"_type": "Image"} if name == "image" else number for name in columns}
    fields = [(name, image if name == "image" else pa.int64()) for name in columns]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


@contextmanager
def _opened(part: Path) -> Iterator[pq.ParquetFile]:
    """Open one file; what pyarrow raises while it is read becomes an :class:`InputError`."""
    try:
        # Without a buffer size, whole row groups would be loaded at once.
        with pq.ParquetFile(part, buffer_size=1 << 20) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{part}: broken or not parquet ({error}); fetch it again") from error
