"""Everything on a GPU: levelhead against eager PyTorch, torch.compile, Liger and the memory's floor, in one run.

    python benchmarks/gpu.py --compile [--only rows sizes batch dropout models memory] [--quick] [--device cuda]

Each result is checked first, values and gradients: against float64, an error of at most twice PyTorch's, and the mask
of dropout bit for bit that of the CPU. Then all contenders are timed by turns, between CUDA events around enough calls
for a millisecond, each call on the next of so many inputs that they do not stay in the L2 cache; a figure is the median
of the turns. ``floor`` is the bytes that must move over the bandwidth of a large copy in the same run; ``share`` is the
floor over levelhead's time. ``levelhead`` is what a user gets, through the dispatch. Without a GPU it says so and ends
with status 2; ``--device cpu`` runs the same program on the CPU, to test it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import gpu_models
import torch
from torch import Tensor
from torch.nn import functional as F

import levelhead as lh
from levelhead import ops
from levelhead.ops import library

Function = Callable[..., Tensor | tuple[Tensor, ...]]
PARTS = ("rows", "sizes", "batch", "dropout", "models", "memory")
RESNET = [(64, 112), (64, 56), (256, 56), (128, 28), (512, 28), (1024, 14), (2048, 7)]  # channels, size
P = 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table: the same function of x and more, in each library; ``moves`` in tensors of the size of x."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    contenders: dict[str, Function]
    extra: int  # further inputs of the size of x
    parameters: int  # how many values weight and bias have; 0 for none
    moves: tuple[int, int]  # forward, forward and backward
    last: bool = False
    random: bool = False

    @property
    def bytes(self) -> int:
        """Of x."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Machine:
    """The device: how time and memory are measured on it."""

    def __init__(self, device: str, quick: bool) -> None:
        self.device, self.quick, self.gpu = device, quick, device.startswith("cuda")
        self.cache = torch.cuda.get_device_properties(device).L2_cache_size if self.gpu else 2**20
        self.turns = 3 if quick else 15

    def __str__(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.gpu else "the CPU: not a measurement of a GPU"

    def milliseconds(self, run: Callable[[], object], times: int) -> float:
        """Of one call, in the mean of ``times``."""
        if not self.gpu:
            start = time.perf_counter()
            for _ in range(times):
                run()
            return (time.perf_counter() - start) / times * 1e3
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(times):
            run()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / times

    def medians(self, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Of the turns, after a warm-up that also compiles."""
        times = {}
        for name, run in runs.items():
            self.milliseconds(run, 3)
            times[name] = max(1, min(200, int(1 / max(self.milliseconds(run, 3), 1e-3))))
        found: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(self.turns):
            for name, run in runs.items():
                found[name].append(self.milliseconds(run, times[name]))
        return {name: statistics.median(values) for name, values in found.items()}

    def copy_bandwidth(self) -> float:
        """Bytes a millisecond, read and written."""
        x = torch.randn(2**18 if self.quick else 2**28, device=self.device)
        y = torch.empty_like(x)
        return 2 * x.numel() * 4 / self.medians({"copy": lambda: y.copy_(x)})["copy"]

    def peak(self, run: Callable[[], object]) -> float:
        """The most megabytes allocated during a call beyond those before it; 0 where that is not counted."""
        if not self.gpu:
            return 0.0
        run()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6


@contextlib.contextmanager
def forced(backend: str | None) -> Iterator[None]:
    """As ``LEVELHEAD_BACKEND`` does, for a while."""
    before = library.FORCED
    library.FORCED = backend
    try:
        yield
    finally:
        library.FORCED = before


def liger() -> dict[str, Function]:
    """Its norms of rows, where it is installed."""
    if importlib.util.find_spec("liger_kernel") is None:
        return {}
    from liger_kernel.ops.layer_norm import LigerLayerNormFunction
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    return {
        "layer": lambda x, w, b: LigerLayerNormFunction.apply(x, w, b, 1e-5),
        "rms": lambda x, w, b: LigerRMSNormFunction.apply(x, w, 1e-5, 0.0, "llama", False),
    }


def row_case(kind: str, rows: int, columns: int, dtype: torch.dtype) -> Case:
    """Layer or RMS norm."""

    def norm(module: object) -> Function:
        if kind == "layer":
            return lambda x, w, b: module.layer_norm(x, (columns,), w, b)
        return lambda x, w, b: module.rms_norm(x, (columns,), w, 1e-5)

    contenders = {"levelhead": norm(ops), "eager": norm(F)}
    if kind in (other := liger()):
        contenders["liger"] = other[kind]
    return Case(kind, (rows, columns), dtype, contenders, 0, columns, (2, 5))


def batch_case(channels: int, size: int, batch: int, dtype: torch.dtype, last: bool, fused: bool) -> Case:
    """Batch norm in training, alone or with a sum and ReLU behind it."""

    def ours(x: Tensor, *rest: Tensor) -> Tensor:
        *residual, w, b = rest
        extras = {"residual": residual[0], "activation": "relu"} if fused else {}
        return ops.batch_norm(x, None, None, w, b, True, **extras)

    def eager(x: Tensor, *rest: Tensor) -> Tensor:
        *residual, w, b = rest
        y = F.batch_norm(x, None, None, w, b, True)
        return F.relu(y + residual[0]) if fused else y

    name = "batch+add+relu" if fused else "batch"
    shape = (batch, channels, size, size)
    return Case(
        name, shape, dtype, {"levelhead": ours, "eager": eager}, int(fused), channels, (3 + fused, 8 + 4 * fused), last
    )


def dropout_cases(rows: int, columns: int, dtype: torch.dtype) -> list[Case]:
    """Dropout alone and with the sum and the layer norm behind it."""

    def eager(x: Tensor, residual: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        total = F.dropout(x, P) + residual
        return F.layer_norm(total, (columns,), w, b), total

    def ours(x: Tensor, residual: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return ops.dropout_add_layer_norm(x, residual, (columns,), w, b, P)

    alone = {"levelhead": lambda x: ops.dropout(x, P), "eager": lambda x: F.dropout(x, P)}
    shape = (rows, columns)
    return [
        Case("dropout", shape, dtype, alone, 0, 0, (2, 4), random=True),
        Case(
            "dropout_add_layer_norm", shape, dtype, {"levelhead": ours, "eager": eager}, 1, columns, (4, 9), random=True
        ),
    ]


def cases(part: str, quick: bool) -> Iterator[Case]:
    """The rows of one part of the table."""
    small = quick
    for dtype in (torch.float32, torch.bfloat16):
        if part == "rows":
            for columns in (256, 1024) if small else [2**n for n in range(8, 19)]:
                elements = 2**14 if small else 2**25
                for kind in ("layer", "rms"):
                    yield row_case(kind, elements // columns, columns, dtype)
        if part == "sizes":
            for power in (10, 12) if small else range(12, 27, 2):
                yield row_case("layer", 2**power // 1024 or 1, 1024, dtype)
        if part == "batch":
            for channels, size in ((8, 7),) if small else RESNET:
                for last in (False, True):
                    for fused in (False, True):
                        yield batch_case(channels, size, 4 if small else 64, dtype, last, fused)
        if part == "dropout":
            yield from dropout_cases(*((64, 256) if small else (32768, 768)), dtype)


def inputs_of(case: Case, device: str) -> list[Tensor]:
    """x, what is of its size, and the parameters."""
    layout = torch.channels_last if case.last else torch.contiguous_format
    sized = [torch.randn(case.shape, dtype=case.dtype, device=device) for _ in range(1 + case.extra)]
    sized = [t.contiguous(memory_format=layout) for t in sized]
    parameters = [
        torch.rand(case.parameters, dtype=case.dtype, device=device) for _ in range(2 if case.parameters else 0)
    ]
    return [t.requires_grad_() for t in (*sized, *parameters)]


def results(function: Function, inputs: list[Tensor], gradients: list[Tensor] | None) -> list[Tensor]:
    """The outputs and, with gradients, those of the inputs."""
    found = function(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    if gradients is None:
        return list(outputs)
    used = torch.autograd.grad(outputs, inputs, gradients[: len(outputs)], allow_unused=True)
    return [t.detach() for t in outputs] + [g for g in used if g is not None]


def check(case: Case, device: str) -> None:
    """Our error against float64 is at most twice PyTorch's, or some roundings; a mask is the CPU's.

    Raises:
        SystemExit: it is not.
    """
    inputs = inputs_of(case, device)
    if case.random:
        check_mask(case, inputs)
        return
    gradients = [torch.randn_like(inputs[0])]
    wide = [t.detach().double().requires_grad_() for t in inputs]
    exact = results(case.contenders["eager"], wide, [gradients[0].double()])
    for backend in (None, "triton") if device.startswith("cuda") else (None,):
        with forced(backend):
            ours = results(case.contenders["levelhead"], inputs, gradients)
        theirs = results(case.contenders["eager"], inputs, gradients)
        for i, (a, b, c) in enumerate(zip(ours, theirs, exact, strict=True)):
            errors = [float((t.double() - c).abs().max() / c.abs().max()) for t in (a, b)]
            if not errors[0] <= max(2 * errors[1], 8 * torch.finfo(case.dtype).eps):
                what = "result" if i == 0 else f"gradient {i}"
                raise SystemExit(
                    f"{case.name} {case.shape} {case.dtype}: {what} off by {errors[0]:.1e}, PyTorch {errors[1]:.1e}"
                )


def check_mask(case: Case, inputs: list[Tensor]) -> None:
    """With one seed the device drops what the CPU drops, forward and backward."""
    found = []
    for tensors in (inputs, [t.detach().cpu().requires_grad_() for t in inputs]):
        torch.manual_seed(5)
        x = tensors[0]
        y = case.contenders["levelhead"](*tensors)
        total = y[-1] - tensors[1] if isinstance(y, tuple) else y
        (dx,) = torch.autograd.grad(total.sum(), x)
        found.append(((dx != 0).cpu(), total.detach().cpu()))
    (ours, y), (theirs, expected) = found
    if not torch.equal(ours, theirs):
        raise SystemExit(f"{case.name}: the mask is not the CPU's: {int((ours != theirs).sum())} elements differ")
    torch.testing.assert_close(y, expected, rtol=2 * torch.finfo(case.dtype).eps, atol=4 * torch.finfo(case.dtype).eps)


def measure(case: Case, machine: Machine, backward: bool, compiled: bool) -> tuple[dict[str, float], float]:
    """Milliseconds by contender, and the megabytes that levelhead needs at most."""
    sets = 1 + min(32, 3 * machine.cache // case.bytes)
    inputs = [inputs_of(case, machine.device) for _ in range(sets)]
    outputs = case.contenders["eager"](*inputs[0])
    gradients = [torch.randn_like(t) for t in (outputs if isinstance(outputs, tuple) else (outputs,))]
    functions = dict(case.contenders)
    if compiled:
        functions["compile"] = torch.compile(case.contenders["eager"], dynamic=False)
    runs = {name: step(function, inputs, gradients if backward else None) for name, function in functions.items()}
    found = machine.medians(runs)
    return found, machine.peak(runs["levelhead"])


def step(function: Function, inputs: list[list[Tensor]], gradients: list[Tensor] | None) -> Callable[[], object]:
    """A call on the next of the inputs."""
    turn = 0

    def run() -> object:
        nonlocal turn
        turn += 1
        with torch.set_grad_enabled(gradients is not None):
            return results(function, inputs[turn % len(inputs)], gradients)

    return run


def table(part: str, machine: Machine, bandwidth: float, compiled: bool) -> None:
    """Checks and times the cases of a part."""
    names = ["levelhead", "eager", *(["compile"] if compiled else []), *(["liger"] if liger() else [])]
    print(f"\n{part}: ms and, in brackets, their ratio to levelhead; floor and share of it; peak memory of levelhead")
    print(
        f"{'work':24} {'shape':>18} {'type':>8} {'pass':>7} "
        + " ".join(f"{n:>16}" for n in names)
        + "    floor share  peak MB"
    )
    for case in cases(part, machine.quick):
        check(case, machine.device)
        for backward in (False, True):
            ms, peak = measure(case, machine, backward, compiled)
            floor = case.moves[backward] * case.bytes / bandwidth
            columns = [f"{ms[n]:7.4f} ({ms[n] / ms['levelhead']:5.2f}x)" if n in ms else "-" for n in names]
            shape = "x".join(map(str, case.shape)) + (" last" if case.last else "")
            line = " ".join(f"{c:>16}" for c in columns)
            kind = str(case.dtype).removeprefix("torch.")
            way = "both" if backward else "forward"
            share = f"{floor / ms['levelhead']:5.0%}"
            print(f"{case.name:24} {shape:>18} {kind:>8} {way:>7} {line} {floor:8.4f} {share} {peak:8.1f}", flush=True)
        torch._dynamo.reset()


def models(machine: Machine, compiled: bool) -> None:
    """A training step of two models in bfloat16: eager, converted and compiled."""
    print("\nmodels: a training step in bfloat16, ms and its ratio to the converted model; peak memory, MB")
    for name, make in gpu_models.MODELS.items():
        torch.manual_seed(0)
        model, inputs = make(machine.quick)
        model = model.to(machine.device, torch.bfloat16)
        inputs = [t.to(machine.device, torch.bfloat16 if t.is_floating_point() else None) for t in inputs]
        if inputs[0].ndim == 4:
            model, inputs[0] = (t.to(memory_format=torch.channels_last) for t in (model, inputs[0]))
        contenders = {"levelhead": lh.convert(copy.deepcopy(model)), "eager": model}
        gpu_models.check(contenders["levelhead"], contenders["eager"], inputs)
        if compiled:
            contenders["compile"] = torch.compile(copy.deepcopy(model), dynamic=False)
        runs = {key: gpu_models.step(contender, inputs) for key, contender in contenders.items()}
        ms = machine.medians(runs)
        peaks = {key: machine.peak(run) for key, run in runs.items()}
        line = "  ".join(f"{key} {ms[key]:9.2f} ({ms[key] / ms['levelhead']:4.2f}x) {peaks[key]:8.0f}" for key in runs)
        print(f"{name:40} {line}", flush=True)
        torch._dynamo.reset()


def memory(machine: Machine) -> None:
    """What a chain of convolution, batch norm and leaky ReLU needs at its peak."""
    print("\nmemory: 16 convolutions with batch norm and leaky ReLU, forward and backward; peak MB, ratio to eager")
    peaks = {}
    for which in ("eager", "fused", "inplace"):
        model, x = gpu_models.chain(which, machine.quick)
        model, x = model.to(machine.device), x.to(machine.device)
        peaks[which] = machine.peak(gpu_models.step(model, [x]))
        print(
            f"{which:10} {peaks[which]:9.1f} {peaks[which] / peaks['eager'] if peaks['eager'] else 0:5.2f}x", flush=True
        )


def main() -> None:
    """Reads the arguments, and runs the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes most of the time")
    parser.add_argument("--quick", action="store_true", help="tiny inputs, to see that everything runs")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("PyTorch sees no GPU: nothing was measured. --device cpu --quick tests this program.", file=sys.stderr)
        raise SystemExit(2)
    machine = Machine(options.device, options.quick)
    bandwidth = machine.copy_bandwidth()
    print(f"{machine}; torch {torch.__version__}; backends: {ops.backends()}; copy {bandwidth / 1e6:.0f} GB/s")
    for part in options.only:
        if part == "models":
            models(machine, options.compile)
        elif part == "memory":
            memory(machine)
        else:
            table(part, machine, bandwidth, options.compile)


if __name__ == "__main__":
    main()
