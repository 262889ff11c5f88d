"""The picture of the page on which people answer: what the demo's model is unsure of.

python -m tests.bench.page_picture coft-workspace/demo tasks/answering/page.png
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tasks.answering.listed import work_of
from tasks.answering.specs import AskSpec
from tests.bench.picture import MAX_BYTES, chromium
from tests.worlds.pages import served_page

WIDTH, HEIGHT = 1200, 700  # pixels


def main(workspace: Path, target: Path) -> None:
    """Write the picture of the first question about a workspace's predictions."""
    with tempfile.TemporaryDirectory() as folder:
        work = work_of(str(workspace), None, (), AskSpec(name="picture"))
        picture = Path(folder, "picture.png")
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size = f"--window-size={WIDTH},{HEIGHT}"
        more = [size, f"--user-data-dir={folder}/profile", "--virtual-time-budget=4000"]
        with served_page(work) as address:
            command = [chromium(), *quiet, *more, f"--screenshot={picture}", address]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        Image.open(picture).convert("RGB").quantize(128).save(target, optimize=True)
    if target.stat().st_size > MAX_BYTES:
        sys.exit(f"{target} has {target.stat().st_size} bytes; at most {MAX_BYTES} are wanted.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
