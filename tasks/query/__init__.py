"""Ask a workspace: SQL over its files, and the four questions that need vectors.

    table = run_sql("coft-workspace", "select label, count(*) from labels group by 1")
    near = similar("coft-workspace", "photos/cat.jpg", 10)
    print(to_text(near))

Answers are Arrow tables. Files are read where they are; nothing is copied or written.
"""

from tasks.query.output import FORMATS, Format, to_bytes, to_text, write_output
from tasks.query.questions import disagreements, duplicates, outliers, similar
from tasks.query.sandbox import open_workspace, run_sql

__all__ = [
    "FORMATS",
    "Format",
    "disagreements",
    "duplicates",
    "open_workspace",
    "outliers",
    "run_sql",
    "similar",
    "to_bytes",
    "to_text",
    "write_output",
]
