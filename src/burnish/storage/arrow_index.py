"""Where the encoded images of arrow streams lie in their files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.arrays import to_int64
from burnish.storage.arrow import ArrowTable, faults
from burnish.storage.encoded import MAX_BYTES

Index = tuple[np.ndarray, np.ndarray, np.ndarray, Tensor | None]


def index_arrow(path: Path, files: Sequence[Path]) -> Index:
    """Return for each image the number of its file, its first byte there, its size; and labels.

    Args:
        path: What the files are, for messages.
        files: Streams of the same columns: ``image`` (or ``img``), a struct of ``bytes`` and
            ``path``, and ``label`` (or ``labels``) if there are labels.

    Raises:
        InputError: A stream is broken, compressed, or of other columns, or an image or a label is
            missing.
    """
    table = ArrowTable(list(files))
    column = next((name for name in ("image", "img") if name in table.schema.names), "")
    kind = table.schema.field(column).type if column else pa.null()
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        held = ", ".join(table.schema.names[:20])
        raise InputError(f"{path}: needs a column image, a struct with bytes; it has {held}")
    numbers = {file: number for number, file in enumerate(files)}
    of, begins, sizes = [], [], []
    for file, begin in table.begins:
        with faults(file), pa.memory_map(str(file)) as stream:
            whole = stream.read_buffer()
            cells = table.batch(stream, begin).column(column).field("bytes")
            first, size = _cells(file, cells, whole)
        of.append(np.full(len(cells), numbers[file], np.int32))
        begins.append(first)
        sizes.append(size)
    if not sum(map(len, sizes)):
        raise InputError(f"{path} holds no images")
    label = next((name for name in ("label", "labels") if name in table.schema.names), None)
    labels = None if label is None else _labels(path, table, label)
    return np.concatenate(of), np.concatenate(begins), np.concatenate(sizes), labels


def _cells(file: Path, cells: pa.Array, whole: pa.Buffer) -> tuple[np.ndarray, np.ndarray]:
    """Return where the cells of a binary array begin in the mapped file, and their sizes."""
    if cells.null_count:
        raise InputError(f"{file}: images without bytes; embed them")
    wide = pa.types.is_large_binary(cells.type)
    if not wide and not pa.types.is_binary(cells.type):
        raise InputError(
            f"{file}: the images are {str(cells.type)[:40]}, not bytes of PNG or JPEG"
        )
    _, offsets, data = cells.buffers()
    if not len(cells) or data is None:
        return np.zeros(len(cells), np.int64), np.zeros(len(cells), np.int64)
    base = data.address - whole.address
    if not 0 <= base <= whole.size - data.size:
        raise InputError(f"{file} is compressed; save it without compression")
    kind = np.int64 if wide else np.int32
    ends = np.frombuffer(offsets, kind)[cells.offset : cells.offset + len(cells) + 1]
    ends = ends.astype(np.int64)
    size = np.diff(ends)
    if size.min() < 0 or size.max() > MAX_BYTES or ends[0] < 0 or ends[-1] > data.size:
        raise InputError(f"{file}: broken or not an arrow stream (sizes); save it again")
    return base + ends[:-1], size


def _labels(path: Path, table: ArrowTable, label: str) -> Tensor:
    values = []
    for numbers in table.column(label):
        if numbers.null_count or not pa.types.is_integer(numbers.type):
            raise InputError(f"{path}: the column {label} must hold an integer for every image")
        held = numbers.to_numpy(zero_copy_only=False)
        values.append(to_int64(path, f"column {label}", held))
    return torch.cat(values)
