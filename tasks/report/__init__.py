"""The report of a run: one HTML file for people, a few lines of Markdown for Prefect.

`write_report` is the task. Everything is read from the finished files that `ReportInputs` points
at, in bounded memory, so that a report can be written again at any time.
"""

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.refs import Ref
from tasks.report.document import render
from tasks.report.inputs import Registered, ReportInputs, StageTime
from tasks.report.summary import summary_markdown
from tasks.specs import RuntimeSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, write_bytes
from tasks.storage.uris import join

__all__ = ["Registered", "ReportInputs", "StageTime", "summary_markdown", "write_report"]

FILE = "report.html"
_LAYOUT = 1  # raised by hand when the same inputs should give another page


@task(cache_policy=NO_CACHE)
def write_report(inputs: ReportInputs, runtime: RuntimeSpec) -> Ref:
    """Write `reports/<digest>/report.html`; equal inputs find it written.

    Returns:
        The folder. A report has no rows.
    """
    started = time.perf_counter()
    digest = fingerprint("report", _LAYOUT, inputs)
    folder = join(runtime.workspace, "reports", digest)
    resumed = exists(join(folder, FILE))
    if not resumed:
        write_bytes(join(folder, FILE), render(inputs).encode())
    seconds = time.perf_counter() - started
    return Ref(uri=folder, digest=digest, rows=0, seconds=seconds, resumed=resumed)
