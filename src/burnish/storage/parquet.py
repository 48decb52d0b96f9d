"""Samples as the Hugging Face hub stores them: ``.parquet`` with encoded images and labels."""

import json
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.samples import Samples
from burnish.storage.image_file import encode_pngs
from burnish.storage.table import Table, TableFile

GROUP = 256  # rows that are written, and later read, at once


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
    ids: array[int] = array("q")
    rows = _rows(samples, ids, names)
    group = list(islice(rows, GROUP))
    columns = ["image", "label"] if group[0][2] is not None else ["image"]
    layout = _layout(columns, classes)
    with pq.ParquetWriter(target, layout, use_dictionary=False) as writer:
        while group:
            writer.write_table(_table(group, layout))
            group = list(islice(rows, GROUP))
    if any(id != place for place, id in enumerate(ids)):
        _add_ids(target, ids, _layout([*columns, "id"], classes))


def _add_ids(target: Path, ids: Sequence[int], layout: pa.Schema) -> None:
    """Rewrite a file with a column more; only at its end is it known whether it needs one."""
    with (
        write_aside(target) as aside,
        _opened(target) as file,
        pq.ParquetWriter(aside, layout, use_dictionary=False) as writer,
    ):
        for index in range(file.num_row_groups):
            table = file.read_row_group(index)
            part = [pa.array(ids[index * GROUP : index * GROUP + len(table)], pa.int64())]
            writer.write_table(table.append_column(layout.field("id"), part).cast(layout))


def _rows(
    samples: Iterator[Samples], ids: "array[int]", names: Sequence[str] | None
) -> Iterator[tuple[bytes, str | None, int | None]]:
    """Yield the encoded image, name and label of each row, and append its id to ``ids``."""
    for batch in samples:
        labels = repeat(None) if batch.labels is None else batch.labels.tolist()
        contents = encode_pngs(batch.images)
        for content, label, id in zip(contents, labels, batch.ids.tolist(), strict=False):
            name = names[len(ids)] if names else None
            ids.append(id)
            yield content, name, label


def _table(rows: Sequence[tuple[bytes, str | None, int | None]], layout: pa.Schema) -> pa.Table:
    contents, names, labels = zip(*rows, strict=True)
    kinds = [pa.array(contents, pa.binary()), pa.array(names, pa.string())]
    image = pa.StructArray.from_arrays(kinds, fields=list(layout.field("image").type))
    columns = [image, pa.array(labels, pa.int64())]
    return pa.table(columns[: len(layout)], layout)


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
