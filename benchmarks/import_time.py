"""What ``import levelhead`` takes beyond ``import torch``: medians over fresh processes, in turn.

Run: python benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 11


def seconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def main() -> None:
    programs = {"import torch": [], "import torch, levelhead": []}
    for _ in range(RUNS):
        for program, times in programs.items():
            times.append(seconds(program))
    plain, ours = (statistics.median(times) for times in programs.values())
    print(f"import torch {plain * 1e3:.0f} ms, with levelhead {ours * 1e3:.0f} ms: {(ours - plain) * 1e3:.0f} ms more")


if __name__ == "__main__":
    main()
