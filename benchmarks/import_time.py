"""What starting costs: levelhead's layers beyond ``import torch``, and the command's help and list; medians, in turn.

Run: python benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 7
COMMAND = str(Path(sys.executable).parent / "levelhead")
STARTS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "import torch, levelhead.nn": [sys.executable, "-c", "import torch, levelhead.nn"],
    "levelhead --help": [COMMAND, "--help"],
    "levelhead study --list": [COMMAND, "study", "--list"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(RUNS):
        for name, command in STARTS.items():
            times[name].append(seconds(command))
    for name, values in times.items():
        print(
            f"{name:28} {statistics.median(values) * 1e3:6.0f} ms  ({min(values) * 1e3:.0f} to {max(values) * 1e3:.0f})"
        )


if __name__ == "__main__":
    main()
