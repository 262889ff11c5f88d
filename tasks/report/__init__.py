"""The report of a run: one HTML file for people, a few lines of Markdown for Prefect.

Everything is read from the finished files that `ReportInputs` refers to, in bounded memory, so a
report can be written again at any time.
"""

from tasks.report.document import summary_markdown, write_report
from tasks.report.inputs import Registered, ReportInputs, StageTime

__all__ = ["Registered", "ReportInputs", "StageTime", "summary_markdown", "write_report"]
