"""What a run found: rows with error bars, figures, pages."""

from kdjax.report.report import ENSEMBLE, METRICS, Report, Row, representatives, summarise, write

__all__ = ["ENSEMBLE", "METRICS", "Report", "Row", "representatives", "summarise", "write"]
