"""The two pictures of the first page, made by the commands that stand beside them there.

Run: make pictures        (needs Chromium; an examination and a study, about two minutes)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEVELHEAD = Path(sys.executable).parent / "levelhead"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXAMINE = "levelhead examine examples/examine_raw_inputs.py:build --budget 90 --html"
STUDY = "levelhead study --data digits --arm plain --arm BN-x5 --seeds 10 --steps 300 --depth 10 --out"


def run(command: str, out: Path, status: int) -> None:
    result = subprocess.run([LEVELHEAD, *command.split()[1:], out], cwd=ROOT, check=False)
    if result.returncode != status:
        raise SystemExit(f"{command}: status {result.returncode}, not {status}")


def photograph(page: Path, picture: Path, height: int) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=8000"]
    target = [f"--window-size=1200,{height}", f"--screenshot={picture}", page.as_uri()]
    subprocess.run([CHROMIUM, *options, *target], check=True, capture_output=True)
    print(picture.relative_to(ROOT))


def main() -> None:
    if CHROMIUM is None:
        raise SystemExit("the pictures need Chromium: apt-get install chromium")
    images = ROOT / "docs" / "images"
    with tempfile.TemporaryDirectory() as folder:
        run(EXAMINE, Path(folder) / "examination.html", 1)  # 1: there are findings
        photograph(Path(folder) / "examination.html", images / "examination.png", 970)
        run(STUDY, Path(folder) / "study", 0)
        photograph(Path(folder) / "study" / "report.html", images / "study.png", 1440)


if __name__ == "__main__":
    main()
