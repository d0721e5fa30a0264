"""Self-contained HTML pages: `write_report` makes one file with images, scores, reasons and where they came from."""

from editscore.report.page import render_report, write_report
from editscore.report.rows import DIMENSIONS, ReportRow, typical_pass

__all__ = ["DIMENSIONS", "ReportRow", "render_report", "typical_pass", "write_report"]
