"""Dropout, forward and backward: levelhead against eager PyTorch, torch.compile and the floor, in one run.

First each result is checked; then all are timed by turns, so that a busy machine slows them alike. A figure is the
median of the turns; ``ratio`` is eager's over ours, and ``floor`` the time to move the bytes that must be moved at the
bandwidth of a copy of the same tensor. Everything is measured twice: with glibc's default allocator, and with one that
keeps freed memory in the process.

    python benchmarks/dropout.py [--compile] [--threads 2] [--turns 15] [--p 0.1] [--dtype float32]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from levelhead import ops
from levelhead.ops import cpu
from levelhead.ops.dropouts import rate

TUNED = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "10000000000"}
Step = Callable[[], object]


class Case:
    """One row: the same function in both libraries, its inputs, and how many tensors of x's size must be moved."""

    def __init__(self, name: str, shape: tuple[int, ...], ours: Callable, eager: Callable, inputs: int, moves: int):
        self.name, self.shape, self.ours, self.eager = name, shape, ours, eager
        self.inputs, self.moves = inputs, moves


def cases(p: float) -> list[Case]:
    """The rows of the table."""

    def add_norm(x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        total = F.dropout(x, p) + residual
        return F.layer_norm(total, total.shape[-1:]), total

    def ours_add_norm(x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return ops.dropout_add_layer_norm(x, residual, x.shape[-1:], p=p)

    rows = [
        Case("dropout", shape, lambda x: ops.dropout(x, p), lambda x: F.dropout(x, p), 1, 4)
        for shape in ((8, 16), (128, 256), (1024, 1024), (32768, 768))
    ]
    channels = Case("dropout2d", (64, 64, 56, 56), lambda x: ops.dropout2d(x, p), lambda x: F.dropout2d(x, p), 1, 4)
    # forward: reads x and residual, writes two results; backward: reads two gradients and s, writes two
    return [*rows, channels, Case("dropout_add_layer_norm", (32768, 768), ours_add_norm, add_norm, 2, 9)]


def check(case: Case, p: float, dtype: torch.dtype) -> None:
    """That ours drops at the rate, scales what is kept, and has the same mask in the backward pass."""
    _, scale = rate(p)
    x, *rest = (torch.rand(case.shape, dtype=dtype).add(1).requires_grad_() for _ in range(case.inputs))
    results = case.ours(x, *rest)
    if rest:
        y, total = results
        torch.testing.assert_close(y, F.layer_norm(total, total.shape[-1:]))
        dropped = (total - rest[0]).detach()
    else:
        dropped = total = results
    kept = dropped.abs() > 0.5
    torch.testing.assert_close(dropped, x.detach() * kept * scale)
    (gradient,) = torch.autograd.grad(total.sum(), x)
    assert torch.equal(gradient != 0, kept)
    units = x.shape[0] * x.shape[1] if case.name == "dropout2d" else x.numel()
    assert abs(1 - kept.double().mean() - p) < 6 * (p * (1 - p) / units) ** 0.5 + 1e-5


def step(function: Callable, inputs: list[Tensor], gradients: list[Tensor]) -> Step:
    """Forward and backward."""

    def run() -> object:
        results = function(*inputs)
        return torch.autograd.grad(results if isinstance(results, tuple) else (results,), inputs, gradients)

    return run


def milliseconds(run: Step, times: int) -> float:
    """Of one call, in the mean of ``times``."""
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times * 1e3


def measure(case: Case, turns: int, dtype: torch.dtype, compiled: bool) -> dict[str, float]:
    """Medians in milliseconds, by contender."""
    inputs = [torch.randn(case.shape, dtype=dtype).requires_grad_() for _ in range(case.inputs)]
    gradients = [torch.randn(case.shape, dtype=dtype) for _ in range(case.inputs)]
    source, target = inputs[0].detach(), torch.empty_like(inputs[0])
    contenders: dict[str, Step] = {
        "ours": step(case.ours, inputs, gradients),
        "eager": step(case.eager, inputs, gradients),
        "copy": lambda: target.copy_(source),
    }
    if compiled:
        contenders["compile"] = step(torch.compile(case.eager), inputs, gradients)
    for run in contenders.values():
        run(), run()
    times = max(1, min(200, 2**20 // source.numel()))
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, run in contenders.items():
            figures[name].append(milliseconds(run, times))
    return {name: statistics.median(values) for name, values in figures.items()}


def table(arguments: argparse.Namespace) -> None:
    """Check and time every case with the allocator of this process."""
    dtype = getattr(torch, arguments.dtype)
    print(
        f"{'work':24} {'shape':>16} {'ours ms':>9} {'eager ms':>9} {'ratio':>7} {'floor ms':>9} {'of floor':>8}", end=""
    )
    print(f" {'compile':>9} {'ratio':>7}" if arguments.compile else "")
    for case in cases(arguments.p):
        if dtype == torch.float32:
            check(case, arguments.p, dtype)
        ms = measure(case, arguments.turns, dtype, arguments.compile)
        floor = ms["copy"] * case.moves / 2
        shape = "x".join(map(str, case.shape))
        print(
            f"{case.name:24} {shape:>16} {ms['ours']:9.4f} {ms['eager']:9.4f} {ms['eager'] / ms['ours']:6.2f}x", end=""
        )
        print(f" {floor:9.4f} {floor / ms['ours']:8.0%}", end="")
        print(f" {ms['compile']:9.4f} {ms['compile'] / ms['ours']:6.2f}x" if arguments.compile else "", flush=True)


def main() -> None:
    """Once with each allocator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--p", type=float, default=0.1)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16", "float16"])
    parser.add_argument("--here", action="store_true", help="only with the allocator that the environment sets")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.here:
        table(arguments)
        return
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, kernels: {cpu.instruction_set()}, {arguments.dtype}"
    )
    for allocator, environment in (("default", {}), ("keeps freed memory", TUNED)):
        print(f"\nallocator: {allocator}", flush=True)
        subprocess.run([sys.executable, *sys.argv, "--here"], env={**os.environ, **environment}, check=True)


if __name__ == "__main__":
    main()
