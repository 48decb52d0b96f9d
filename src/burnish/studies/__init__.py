"""Tables of measurements: rows described in YAML, measured on ranges of seeds, resumably."""

from burnish.studies.cache import Workshop, measure
from burnish.studies.summary import agreement, summary
from burnish.studies.tables import Row, Table, Tables, expand, load_tables

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
