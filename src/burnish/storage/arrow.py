"""Samples as ``save_to_disk`` of Hugging Face's ``datasets`` leaves them: a folder of ``.arrow``.

``state.json`` lists the files, which are streams of record batches. They are read without
``datasets``, one record batch in memory. Read only.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from burnish.errors import InputError
from burnish.storage.sample_file import printable
from burnish.storage.table import Table, TableFile


class Reader(TableFile):
    """Samples of a folder of ``save_to_disk``, or of one ``.arrow`` stream."""

    def __init__(self, path: Path, batch_size: int) -> None:
        super().__init__(path, batch_size, ArrowTable(data_files(path)))


def data_files(path: Path) -> list[Path]:
    """Return the streams of a folder in their order; a file stands for itself."""
    if not path.is_dir():
        return [path]
    state = path / "state.json"
    try:
        held = json.loads(state.read_bytes())
        names = [one["filename"] for one in held["_data_files"]]
        if held.get("_indices_data_files"):
            raise InputError(f"{path}: rows were selected, not copied; save flatten_indices()")
    except (KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{state} does not list data files; save the data set again") from error
    if not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise InputError(f"{state} lists no files of its own folder; save the data set again")
    for name in names:
        if not (path / name).is_file():
            raise InputError(f"{path}/{printable(name)}: missing; save the data set again")
    return [path / name for name in names]


class ArrowTable(Table):
    """The record batches of streams that have the same columns."""

    def __init__(self, files: list[Path]) -> None:
        self.counts = []
        self.begins: list[tuple[Path, int]] = []
        schema: pa.Schema | None = None
        for file in files:
            # Mapped: of each batch only its head is touched.
            with faults(file), pa.memory_map(str(file)) as stream:
                found = pa.ipc.read_schema(pa.ipc.read_message(stream))
                if schema is not None and not found.equals(schema):
                    raise InputError(f"{file}: columns unlike those of the first file")
                schema = found
                if any(pa.types.is_dictionary(kind) for kind in found.types):
                    raise InputError(f"{file}: dictionary columns; save it with datasets")
                for begin, batch in _batches(stream, found):
                    self.counts.append(batch.num_rows)
                    self.begins.append((file, begin))
        assert schema is not None
        self.schema = schema

    def cells(self, group: int, column: str) -> Iterator[pa.Array]:
        """Yield the encoded images of a batch; it is read, not mapped, to keep memory small."""
        file, begin = self.begins[group]
        with faults(file), pa.OSFile(str(file)) as stream:
            yield self.batch(stream, begin).column(column).field("bytes")

    def column(self, name: str, field: str = "") -> Iterator[pa.Array]:
        """Yield a column; batches are mapped, so that images are not touched."""
        for file, begin in self.begins:
            with faults(file), pa.memory_map(str(file)) as stream:
                column = self.batch(stream, begin).column(name)
                yield column.field(field) if field else column

    def batch(self, stream: pa.NativeFile, begin: int) -> pa.RecordBatch:
        """Return the record batch that begins at a byte of a stream."""
        stream.seek(begin)
        _, batch = next(_batches(stream, self.schema))
        batch.validate()
        return batch


def _batches(stream: pa.NativeFile, schema: pa.Schema) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield where each record batch begins, and the batch."""
    while True:
        begin = stream.tell()
        try:
            message = pa.ipc.read_message(stream)
        except EOFError:
            return
        yield begin, pa.ipc.read_record_batch(message, schema)


@contextmanager
def faults(file: Path) -> Iterator[None]:
    """Turn what pyarrow raises into an :class:`InputError`."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{file}: broken or not an arrow stream ({reason}); save the data set again"
        ) from error
