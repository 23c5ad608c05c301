"""Page faults, time and memory of a training step, with and without ``lh.tune_allocator()``, in two processes.

python benchmarks/page_faults.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

import levelhead as lh


def measure() -> tuple[float, int, int]:
    """Milliseconds and page faults of a step (medians of the last 15 of 30), and the megabytes held at the end."""
    model = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.BatchNorm2d(16), nn.ReLU())
    x = torch.randn(32, 16, 140, 140)
    times, faults = [], []
    for _ in range(30):
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        model(x).sum().backward()
        times.append((time.perf_counter() - start) * 1e3)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20
    return statistics.median(times[15:]), int(statistics.median(faults[15:])), held


def main() -> None:
    """Runs itself once with each allocator."""
    if len(sys.argv) > 1:
        if sys.argv[1] == "tuned":
            lh.tune_allocator()
        torch.set_num_threads(1)
        milliseconds, faults, held = measure()
        print(f"| {sys.argv[1]} | {milliseconds:.0f} | {faults:,} | {held:,} |")
        return
    print("| allocator | ms a step | page faults a step | MB held at the end |\n|---|---|---|---|", flush=True)
    for how in ("default", "tuned"):
        subprocess.run([sys.executable, __file__, how], check=True)


if __name__ == "__main__":
    main()
