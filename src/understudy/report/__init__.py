"""Reads run directories, imports no torch; Markdown, HTML, JSON."""

from understudy.report.building import build_report
from understudy.report.html import to_html
from understudy.report.markdown import to_markdown
from understudy.report.reading import read_run
from understudy.report.records import RunRecord
from understudy.report.schema import Report
from understudy.report.terminal import table
from understudy.report.writing import ReportPaths, write_report

__all__ = [
    "Report",
    "ReportPaths",
    "RunRecord",
    "build_report",
    "read_run",
    "table",
    "to_html",
    "to_markdown",
    "write_report",
]
