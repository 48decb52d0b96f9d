"""Reports: results, galleries of before and after, and training curves, as a page or a table.

:func:`write_report` makes one HTML file that needs nothing else; :func:`results_table` makes the
Markdown table of a README; :func:`pairs_grid` its picture. They take the same paths: a result
JSON, a folder with a ``result.json``, or the folder of a training run.
"""

from burnish.report.figures import pairs_grid
from burnish.report.page import write_report
from burnish.report.tables import results_table

__all__ = ["pairs_grid", "results_table", "write_report"]
