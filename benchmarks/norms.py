"""Norm, activation and residual on the CPU: levelhead against eager PyTorch, torch.compile and the memory's floor.

    python benchmarks/norms.py [--quick] [--compile] [--threads 2]

Each row is checked first (against float64), then timed in turns, forward + backward; medians. The floor is the bytes
that must move (forward: x in, x again, y out; backward: x and dy twice, dx; a residual's traffic besides) over the
copy bandwidth of the same run. The tables come under both settings of the allocator: as it is, and keeping freed
memory in the process (FACTS: fresh pages can cost more than the arithmetic).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from levelhead import ops
from levelhead.ops import cpu

KEEP = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "10000000000"}
IMAGES, SMALL_IMAGES = (64, 64, 56, 56), (32, 256, 14, 14)
CASES = [  # name, shape, activation, with a residual
    *[("batch", shape, "relu", residual) for residual in (False, True) for shape in (IMAGES, SMALL_IMAGES)],
    ("group", IMAGES, None, False),
    ("instance", IMAGES, None, False),
    *[(kind, shape, None, False) for kind in ("layer", "rms") for shape in ((32768, 768), (1024, 1024))],
    *[(kind, shape, None, False) for kind in ("batch", "layer", "rms") for shape in ((8, 16), (128, 256), (512, 512))],
    *[(kind, shape, None, False) for kind in ("group", "instance") for shape in ((8, 32, 4), (32, 64, 16))],
    ("eval", SMALL_IMAGES, "relu", False),
    *[("bfloat16 " + kind, (1024, 1024), None, False) for kind in ("layer", "rms")],
    ("bfloat16 batch", SMALL_IMAGES, "relu", False),
]


def forms(kind, size):
    """The norm as a function of module (ours or PyTorch's), x, weight and bias."""
    return {
        "eval": lambda module, x, w, b, **extras: module.batch_norm(
            x, torch.zeros_like(w), torch.ones_like(w), w, b, False, **extras
        ),
        "batch": lambda module, x, w, b, **extras: module.batch_norm(x, None, None, w, b, True, **extras),
        "instance": lambda module, x, w, b, **extras: module.instance_norm(x, None, None, w, b, **extras),
        "group": lambda module, x, w, b, **extras: module.group_norm(x, 32, w, b, **extras),
        "layer": lambda module, x, w, b, **extras: module.layer_norm(x, (size,), w, b, **extras),
        "rms": lambda module, x, w, b, **extras: module.rms_norm(x, (size,), w, **extras),
    }[kind]


def in_turns(functions, repeats):
    """The median of each function's times in ms, taken in turns."""
    times = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [1e3 * statistics.median(taken) for taken in times]


def copy_bandwidth():
    """Bytes a millisecond, read and written."""
    x = torch.randn(IMAGES)
    y = torch.empty_like(x)
    (taken,) = in_turns([lambda: y.copy_(x)], 15)
    return 2 * x.numel() * x.element_size() / taken


def measure(kind, shape, activation, with_residual, last, bandwidth, options):
    layout = torch.channels_last if last else torch.contiguous_format
    narrow, _, kind = kind.rpartition(" ")
    dtype = getattr(torch, narrow or "float32")
    x = torch.randn(shape, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    size = shape[-1] if kind in ("layer", "rms") else shape[1]
    w, b = (torch.rand(size, dtype=dtype, requires_grad=True) for _ in range(2))
    residual = torch.randn_like(x).requires_grad_() if with_residual else None
    dy = torch.randn_like(x)
    norm = forms(kind, size)

    def eager():
        y = norm(F, x, w, b)
        y = y if residual is None else y + residual
        return F.relu(y, inplace=True) if activation == "relu" else y

    def ours():
        return norm(ops, x, w, b, activation=activation, residual=residual)

    inputs = [t for t in (x, w, None if kind == "rms" else b, residual) if t is not None]
    exact = norm(F, *(t.detach().double() for t in (x, w, b)))
    exact = exact if residual is None else exact + residual.detach()
    exact = exact.relu() if activation else exact
    errors = [float((f().detach() - exact).abs().max()) for f in (ours, eager)]
    if errors[0] > max(2 * errors[1], 3e-6):
        raise SystemExit(f"{kind} {shape}: off by {errors[0]:.1e}, PyTorch by {errors[1]:.1e}")

    contenders = [ours, eager]
    if options.compile:
        torch.compiler.reset()  # or after some rows, whose code is one, eager runs in the graph's place
        contenders.append(torch.compile(eager, dynamic=False))
    repeats = 15 if x.numel() > 10**5 else 200
    both = [lambda f=f: torch.autograd.grad(f(), inputs, dy) for f in contenders]
    times = in_turns(both, repeats)
    moved = (8 + 5 * with_residual) * x.numel() * x.element_size()
    floor = moved / bandwidth
    ratios = " ".join(f"{t / times[0]:6.2f}x" for t in times[1:])
    name = "+".join(
        [f"{narrow} {kind}".strip(), *(["add"] if with_residual else []), *([activation] if activation else [])]
    )
    shape_text = "x".join(map(str, shape)) + (" last" if last else "")
    columns = " ".join(f"{t:9.3f}" for t in times)
    print(f"{name:20} {shape_text:20} {columns}  {ratios}  {floor:8.3f} {100 * floor / times[0]:4.0f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out the inputs of 50 MB and more")
    parser.add_argument("--compile", action="store_true", help="torch.compile too; a minute of compiling a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="with the allocator of this process only")
    options = parser.parse_args()
    if not options.here:
        for kept in ({}, KEEP):
            subprocess.run([sys.executable, *sys.argv, "--here"], env={**os.environ, **kept}, check=True)
        return
    torch.set_num_threads(options.threads)
    bandwidth = copy_bandwidth()
    kept = "keeps freed memory" if "MALLOC_MMAP_THRESHOLD_" in os.environ else "as it is"
    print(f"\nallocator: {kept}; {options.threads} threads; kernels: {cpu.instruction_set() or cpu.ABSENT}; torch")
    print(f"{torch.__version__}; copy {bandwidth / 1e6:.1f} GB/s; forward + backward, ms; ratios to levelhead; floor")
    names = ["levelhead", "eager", *(["compiled"] if options.compile else [])]
    print(f"{'':41} " + " ".join(f"{name:>9}" for name in names))
    for kind, shape, activation, residual in CASES:
        if options.quick and torch.Size(shape).numel() > 10**7:
            continue
        for last in (False, True) if len(shape) == 4 else (False,):
            measure(kind, shape, activation, residual, last, bandwidth, options)


if __name__ == "__main__":
    main()
