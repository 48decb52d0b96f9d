"""Ledgers on disk: one parquet file, written as the batches come."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.refinement.ledger import Ledger

if TYPE_CHECKING:
    import pyarrow.parquet as pq


class LedgerFile:
    """Gathers rows before writing them; a row group for every batch would make a slow file.

    Args:
        path: The file to make.
        group: Rows to gather.
    """

    def __init__(self, path: Path, group: int = 10_000) -> None:
        self._path, self._group = path, group
        self._columns: dict[str, list[Any]] = {}
        self._writer: pq.ParquetWriter | None = None

    def add(self, ledger: Ledger) -> None:
        """Take the rows of one batch."""
        for name, values in ledger.columns().items():
            self._columns.setdefault(name, []).extend(values)
        if len(self._columns["id"]) >= self._group:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        if self._columns:
            self._flush()
        if self._writer:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(self._columns)
        self._writer = self._writer or pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)
        self._columns = {}


def join_ledgers(path: Path, parts: Sequence[Path], group: int = 10_000) -> None:
    """Join ledgers in order; where one ends and the next begins does not show in the bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(parts[0])
    waiting = schema.empty_table()
    with pq.ParquetWriter(path, schema) as writer:
        for part in parts:
            for batch in pq.ParquetFile(part).iter_batches(group):
                waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
                while len(waiting) >= group:
                    writer.write_table(waiting.slice(0, group).combine_chunks())
                    waiting = waiting.slice(group)
        if len(waiting):
            writer.write_table(waiting.combine_chunks())
