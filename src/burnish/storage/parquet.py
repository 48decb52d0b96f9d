"""Samples as the Hugging Face hub stores them: ``.parquet`` with encoded images and labels."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.samples import Samples, to_uint8
from burnish.storage.image_file import write_png
from burnish.storage.table import Table, TableFile


class Reader(TableFile):
    """Samples of one ``.parquet``; of a range, only the row groups that hold it are read."""

    def __init__(self, path: Path, batch_size: int) -> None:
        super().__init__(path, batch_size, _Parquet(path))


class _Parquet(Table):
    def __init__(self, path: Path) -> None:
        self._path = path
        with _opened(path) as file:
            self.schema = file.schema_arrow
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            self.counts = [group.num_rows for group in groups]

    def cells(self, group: int, column: str) -> Iterator[pa.Array]:
        with _opened(self._path) as file:
            for batch in file.iter_batches(64, [group], [f"{column}.bytes"]):
                yield batch.column(0).field("bytes")

    def column(self, name: str, field: str = "") -> Iterator[pa.Array]:
        with _opened(self._path) as file:
            for batch in file.iter_batches(4096, columns=[f"{name}.{field}" if field else name]):
                yield batch.column(0).field(field) if field else batch.column(0)


def write(
    target: Path, samples: Iterator[Samples], num_images: int, names: Sequence[str] | None,
    classes: Sequence[str] | None,
) -> None:  # fmt: skip
    """Write samples as PNG, with ``names`` as the paths; equal samples give equal bytes."""
    del num_images
    ids: list[int] = []
    rows = _rows(samples, ids, names)
    group = list(islice(rows, 256))
    layout = _layout(list(group[0]), classes)
    try:
        with pq.ParquetWriter(target, layout, use_dictionary=False) as writer:
            while group:
                writer.write_table(pa.Table.from_pylist(group, layout))
                group = list(islice(rows, 256))
    except UnicodeEncodeError as error:
        raise InputError("parquet holds names of UTF-8 only; rename the images") from error
    if ids != list(range(len(ids))):
        _add_ids(target, ids, _layout([*layout.names, "id"], classes))


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


def _layout(columns: Sequence[str], classes: Sequence[str] | None) -> pa.Schema:
    """Return the schema of these columns; its metadata lets ``datasets`` decode the images."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    number: dict[str, Any] = {"_type": "Value", "dtype": "int64"}
    kinds = {"image": {"_type": "Image"}, "label": number, "id": number}
    if classes:
        kinds["label"] = {"_type": "ClassLabel", "names": list(classes)}
    features = {name: kinds[name] for name in columns}
    fields = [(name, image if name == "image" else pa.int64()) for name in columns]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


@contextmanager
def _opened(part: Path) -> Iterator[pq.ParquetFile]:
    """Open one file; what pyarrow raises while it is read becomes an :class:`InputError`."""
    try:
        # Without a buffer size, whole row groups would be loaded at once.
        with pq.ParquetFile(part, buffer_size=1 << 20) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{part}: broken or not parquet ({reason}); fetch it again") from error
