"""What a GPU does while something else runs, as nvidia-smi tells it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EVERY_MS = 500
BUSY = 10.0  # percent of the time, above which the GPU counts as busy


@dataclass
class Usage:
    """Memory in use and share of time at work, one of each every half second."""

    memory_mb: list[float] = field(default_factory=list)
    percent: list[float] = field(default_factory=list)

    @property
    def peak_gb(self) -> float:
        """Return the most memory that was in use."""
        return max(self.memory_mb) / 2**10

    @property
    def busy_share(self) -> float:
        """Return the share of the time that the GPU had something to do."""
        return sum(value > BUSY for value in self.percent) / len(self.percent)

    def read(self, lines: str) -> None:
        """Take what nvidia-smi printed; a line that was cut off is passed over."""
        for line in lines.splitlines():
            cells = [cell.strip() for cell in line.split(",")]
            if len(cells) == 2 and all(cell.isdigit() for cell in cells):
                self.memory_mb.append(float(cells[0]))
                self.percent.append(float(cells[1]))


@contextmanager
def watched(log: Path) -> Iterator[Usage]:
    """Watch the first GPU during the block; the usage is empty where there is no nvidia-smi."""
    usage = Usage()
    program = shutil.which("nvidia-smi")
    if not program:
        yield usage
        return
    fields = "--query-gpu=memory.used,utilization.gpu"
    command = [program, fields, "--format=csv,noheader,nounits", "-i", "0", "-lms", str(EVERY_MS)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
    try:
        yield usage
    finally:
        process.terminate()
        process.wait()
        usage.read(log.read_text())
