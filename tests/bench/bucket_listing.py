"""Memory of listing a bucket: that of a page and of a table in a file, whatever the number."""

import subprocess
import sys

from tests.bench.pipeline import Bench
from tests.bench.rows import Row
from tests.worlds.bucket import s3_server

AT_MOST = 200  # MB
BUCKET = "many"
LISTING = f"""
import re, sys
from pathlib import Path
from tasks.images.sources import list_source

assert list_source("s3://{BUCKET}").num_images == int(sys.argv[1])
print(re.search("VmHWM: +([0-9]+)", Path("/proc/self/status").read_text().replace(chr(9), " "))[1])
"""


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    few, many = (10, 2_000) if bench.quick else (1_000, 100_000)
    start, most = (_peak_mb(count) for count in (few, many))
    name = f"memory of listing a bucket, {many:,} keys above {few:,}"
    return [Row(name, "MB", most, start, most - start, at_most=AT_MOST)]


def _peak_mb(count: int) -> float:
    """Return the most memory of a process that lists so many objects of a server in this one."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    with s3_server(BUCKET):
        for number in range(count):
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, f"{number:06}.png", b"x")
        command = [sys.executable, "-c", LISTING, str(count)]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(found.stdout) / 1024
