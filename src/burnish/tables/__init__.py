"""Tables of measurements: rows described in YAML, measured on ranges of seeds, resumably."""

from burnish.tables.rows import Row, Table, Tables, expand, load_tables
from burnish.tables.summary import agreement, summary
from burnish.tables.workshop import Workshop, measure

__all__ = [
    "Row",
    "Table",
    "Tables",
    "Workshop",
    "agreement",
    "expand",
    "load_tables",
    "measure",
    "summary",
]
