"""The picture of the README: the head of a demo's report, and a few of its examples.

python -m tests.bench.picture coft-workspace/demo tests/report.png
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

WIDTH, HEIGHT, MARGIN = 1200, 2400, 24  # pixels; what is white below is cut off
MAX_BYTES = 300_000
EXAMPLES = (3, 5, 10)  # of the classes, counted from 1
SHOWN = """<style>
nav, footer, section:not(#kept), #kept > :not(h2, .strips), .strips article { display: none }
%s { display: grid }
header { padding-top: 24px }
section { padding: 20px 0 0; margin-top: 24px }
</style></head>"""


def main(workspace: Path, target: Path) -> None:
    """Write the picture of the newest report of a workspace."""
    reports = sorted(workspace.glob("reports/*/report.html"), key=lambda path: path.stat().st_mtime)
    if not reports:
        sys.exit(f"No report in {workspace}. Make one: coft demo")
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder, "page.html"), Path(folder, "picture.png")
        page.write_text(shortened(reports[-1].read_text(encoding="utf-8")), encoding="utf-8")
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size = f"--window-size={WIDTH},{HEIGHT}"
        profile = f"--user-data-dir={folder}/profile"
        command = [chromium(), *quiet, profile, size, f"--screenshot={picture}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        trimmed(Image.open(picture)).quantize(128).save(target, optimize=True)
    if target.stat().st_size > MAX_BYTES:
        sys.exit(f"{target} has {target.stat().st_size} bytes; at most {MAX_BYTES} are wanted.")


def chromium() -> str:
    """Return the browser that draws."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        sys.exit("The picture is drawn by Chromium. On Debian: apt-get install chromium")
    return found


def shortened(page: str) -> str:
    """Return the report without most of its sections and without the paths of this machine."""
    articles = ", ".join(f".strips article:nth-child({number})" for number in EXAMPLES)
    return page.replace(f"{Path.cwd()}/", "").replace("</head>", SHOWN % articles, 1)


def trimmed(image: Image.Image) -> Image.Image:
    """Return the image without the white below its content."""
    image = image.convert("RGB")
    content = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
    bottom = image.height if content is None else min(image.height, content[3] + MARGIN)
    return image.crop((0, 0, image.width, bottom))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
