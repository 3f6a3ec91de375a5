"""What a run found: rows with error bars, figures, pages."""

from kdjax.report.page import write
from kdjax.report.report import Report
from kdjax.report.rows import ENSEMBLE, METRICS, Row, representatives

__all__ = ["ENSEMBLE", "METRICS", "Report", "Row", "representatives", "write"]
