"""The memory of a training step: a chain of convolution, batch norm and activation, ours against eager PyTorch.

    python benchmarks/memory.py [--quick] [--threads 2]

``kept`` is what the graph holds between the forward and the backward pass, each tensor once. ``peak`` is the most
that the process had in memory during the third step beyond what it had before the first, measured by the operating
system (Linux), each model in a process of its own. Ratios to eager PyTorch of the same activation.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import levelhead as lh

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "silu": nn.SiLU}
ROWS = [  # activation, model
    *[(name, which) for name in ("relu", "silu") for which in ("eager", "fused")],
    *[(name, which) for name in ("leaky_relu", "elu") for which in ("eager", "fused", "inplace")],
]


def chain(activation: str, which: str, blocks: int, width: int) -> nn.Module:
    """Blocks of a convolution, a norm and an activation."""
    layers: list[nn.Module] = []
    for _ in range(blocks):
        layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
        if which == "eager":
            layers += [nn.BatchNorm2d(width), ACTIVATIONS[activation]()]
        else:
            memory = "inplace" if which == "inplace" else None
            layers.append(lh.nn.BatchNorm2d(width, activation=activation, memory=memory))
    return nn.Sequential(*layers)


def resident(field: str) -> int:
    """Bytes of this process in memory: VmRSS now, VmHWM at most since ``forget``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}: this benchmark needs Linux")


def measure(activation: str, which: str, blocks: int, size: int) -> tuple[float, float]:
    """Megabytes kept between the passes, and at the peak of a step."""
    torch.manual_seed(0)
    model = chain(activation, which, blocks, 16)
    x = torch.randn(8, 16, size, size)
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        if t.numel() > 10_000:  # else parameters and statistics
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(x).square().mean().backward()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = model(x)
    kept_bytes = sum(kept.values())
    del loss
    for _ in range(2):
        step()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    step()
    return kept_bytes / 1e6, (resident("VmHWM") - before) / 1e6


def main() -> None:
    """Starts a process for each model and prints its line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="images of 64×64 rather than 160×160")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--one", nargs=2, metavar=("ACTIVATION", "MODEL"), help="measure one in this process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = 64 if options.quick else 160
    if options.one:
        print(*measure(*options.one, options.blocks, size))
        return
    tensor = 8 * 16 * size * size * 4 / 1e6
    print(
        f"torch {torch.__version__}; {options.blocks} blocks, tensors of {tensor:.1f} MB;"
        f" kernels: {lh.ops.backends()['cpu']}"
    )
    print(f"{'activation':12} {'model':8} {'kept MB':>9} {'ratio':>6} {'peak MB':>9} {'ratio':>6}")
    eager = (1.0, 1.0)
    for activation, which in ROWS:
        # Every tensor is mapped and unmapped at once, so that what is freed is not counted.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        line = [sys.executable, __file__, *sys.argv[1:], "--one", activation, which]
        result = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
        kept, peak = map(float, result.stdout.split())
        eager = (kept, peak) if which == "eager" else eager
        print(
            f"{activation:12} {which:8} {kept:9.1f} {kept / eager[0]:5.2f}x {peak:9.1f} {peak / eager[1]:5.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
