"""The compiled kernels: which instruction set ran, that they decide nothing by chance, and how exact they are."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import oracles
import pytest
import torch
from torch.nn import functional as F

from levelhead import ops
from levelhead.ops import cpu, library

pytestmark = pytest.mark.skipif(not cpu.PRESENT, reason=f"no compiled kernels: {cpu.ABSENT}")


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    monkeypatch.setattr(library, "FORCED", "cpu")


@pytest.fixture
def threads():
    """Sets the number of threads, and puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


CHECKSUM = """
import torch
from levelhead import ops
from levelhead.ops import cpu
x = torch.sin(torch.arange(2 * 6 * 7 * 9.0)).view(2, 6, 7, 9).requires_grad_()
total = 0.0
for layout in (torch.contiguous_format, torch.channels_last):
    y = ops.batch_norm(x.contiguous(memory_format=layout), None, None, training=True, activation="gelu")
    y = y + ops.group_norm(x.contiguous(memory_format=layout), 2, activation="relu")
    y = y + ops.layer_norm(x, (9,), activation="silu")
    total = total + (y * torch.cos(torch.arange(9.0))).sum()
(dx,) = torch.autograd.grad(total, x)
print(cpu.instruction_set(), float(total), float(dx.abs().sum()))
"""


def test_the_environment_chooses_the_instruction_set_and_all_of_them_agree():
    results = {}
    for name in cpu._module.instruction_sets():
        result = run(CHECKSUM, LEVELHEAD_CPU=name, LEVELHEAD_BACKEND="cpu")
        assert result.returncode == 0, result.stderr
        ran, *numbers = result.stdout.split()
        assert ran == name
        results[name] = [float(number) for number in numbers]
    assert "baseline" in results
    for numbers in results.values():  # sums of 756 float32 values in other orders
        np.testing.assert_allclose(numbers, results["baseline"], rtol=1e-4, atol=1e-4)


def test_by_default_the_best_instruction_set_runs():
    environment = {key: value for key, value in os.environ.items() if key != "LEVELHEAD_CPU"}
    program = "from levelhead.ops import cpu; print(cpu.instruction_set())"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == cpu._module.instruction_sets()[0]


def test_an_unknown_instruction_set_is_named():
    result = run("import levelhead.ops", LEVELHEAD_CPU="sse9")
    assert result.returncode != 0
    assert "LEVELHEAD_CPU='sse9' is not an instruction set; choose one of baseline, avx2, avx512" in result.stderr


def test_an_instruction_set_that_this_cpu_has_not_is_refused():
    absent = [name for name in cpu._KNOWN if name not in cpu._module.instruction_sets()]
    if not absent:
        pytest.skip("this CPU has all of them")
    result = run("import levelhead.ops", LEVELHEAD_CPU=absent[0])
    assert result.returncode != 0
    assert f"LEVELHEAD_CPU={absent[0]} cannot be served: this CPU and build have" in result.stderr


ABSENT = """
import sys, warnings
sys.modules["levelhead.ops._kernels"] = None
import torch
from levelhead import ops
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    ops.batch_norm(torch.randn(8, 6), None, None, training=True)
    for _ in range(2):
        y = ops.batch_norm(torch.randn(700, 100), None, None, training=True)
    ops.layer_norm(torch.randn(6000, 100), (100,))
assert abs(float(y.std(correction=0)) - 1) < 1e-3
print(len(said), said[0].category.__name__, said[0].message)
"""


def test_without_kernels_the_reference_runs_and_says_so_once():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LEVELHEAD_")}
    result = subprocess.run(
        [sys.executable, "-c", ABSENT], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(
        "1 RuntimeWarning levelhead runs its slow reference: the compiled kernels are absent"
    )
    assert "reinstall levelhead where a C++ compiler is" in result.stdout


NORMS = {
    "batch": lambda module, x, w, b: module.batch_norm(x, None, None, w, b, True),
    "instance": lambda module, x, w, b: module.instance_norm(x, None, None, w, b),
    "group": lambda module, x, w, b: module.group_norm(x, 4, w, b),
    "layer": lambda module, x, w, b: module.layer_norm(x, (8,), w, b),
    "rms": lambda module, x, w, b: module.rms_norm(x, (8,), w, eps=1e-5),
}
norms = pytest.mark.parametrize("kind", NORMS)
layouts = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])


def gradients(kind, layout, shape=(5, 8, 37, 8), dtype=torch.float32, offset=0.0):
    generator = torch.Generator().manual_seed(1)
    x = (torch.randn(shape, generator=generator) + offset).to(dtype).contiguous(memory_format=layout).requires_grad_()
    w, b = (torch.rand(8, generator=generator).to(dtype).requires_grad_() for _ in range(2))
    dy = torch.randn(shape, generator=generator).to(dtype)
    y = NORMS[kind](ops, x, w, b)
    inputs = (x, w) if kind == "rms" else (x, w, b)
    return y.detach(), *torch.autograd.grad(y, inputs, dy)


@norms
@layouts
def test_the_same_bits_from_run_to_run(kind, layout, threads):
    threads(3)
    once, again = gradients(kind, layout), gradients(kind, layout)
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a, b)


@norms
@layouts
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_any_number_of_threads(kind, layout, count, threads, monkeypatch):
    """Also more threads than there are examples, channels or rows."""
    monkeypatch.setattr(cpu, "_WORK", 64)
    threads(count)
    many = gradients(kind, layout)
    monkeypatch.setattr(library, "FORCED", "reference")
    for a, b in zip(many, gradients(kind, layout), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)  # parameters' gradients: sums of 1,480 float32 values


@norms
@layouts
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_half_precision(kind, layout, dtype, monkeypatch):
    ours = gradients(kind, layout, dtype=dtype)
    monkeypatch.setattr(library, "FORCED", "reference")
    unit = torch.finfo(dtype).eps
    for a, b in zip(ours, gradients(kind, layout, dtype=dtype), strict=True):
        torch.testing.assert_close(a, b, rtol=unit, atol=1e-5)  # calculated in float32, rounded once


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
@norms
@layouts
def test_at_most_twice_the_error_of_pytorch(kind, layout, offset):
    """For any layout; at an offset, where PyTorch loses digits, no worse than 1e-5."""
    x = (torch.randn(16, 8, 15, 8) + offset).contiguous(memory_format=layout)
    axes = oracles.grouping(kind, tuple(x.shape), 4)
    oracle = oracles.normalize(x.double().numpy(), axes, 1e-5, kind != "rms")
    errors = [
        np.abs(NORMS[kind](module, x, None, None).double().numpy() - oracle).max() / np.abs(oracle).max()
        for module in (ops, F)
    ]
    assert errors[0] <= max(2 * errors[1], 3e-7)  # where PyTorch happens to be exact: 2 to 3 units in the last place
    assert errors[0] < 1e-5


def test_a_first_value_unlike_the_others_costs_no_digits():
    """The kernels shift by the mean of the first values: here it is 1e5 standard deviations from the mean."""
    x = torch.randn(2, 4, 4096)
    x[0, :, :300] += 1e5
    x[1] -= 3e4
    rows = x.reshape(-1, 4096)[4:].clone()
    rows[:, 0] = 1e5
    for values, norm in ((x, "batch"), (rows.view(1, 4, 4096), "instance"), (rows.view(4, 4096), "layer")):
        for tensor in (values, values.transpose(1, -1).contiguous().transpose(1, -1) if values.ndim == 3 else values):
            form = {"batch": lambda t: ops.batch_norm(t, None, None, training=True), "instance": ops.instance_norm}
            y = form.get(norm, lambda t: ops.layer_norm(t, (4096,)))(tensor)
            axes = oracles.grouping(norm, tuple(values.shape), 1)
            oracle = oracles.normalize(values.double().numpy(), axes, 1e-5, True)
            assert np.abs(y.double().numpy() - oracle).max() / np.abs(oracle).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 3, 5, 8, 12, 33])
def test_channels_around_the_vector_width(channels):
    x = torch.randn(70, channels)
    oracle = oracles.normalize(x.double().numpy(), oracles.grouping("batch", (70, channels), 1), 1e-5, True)
    y = ops.batch_norm(x, None, None, training=True)
    np.testing.assert_allclose(y.numpy(), oracle, atol=2e-6)


@norms
@layouts
def test_gradients_where_values_are_near_1e30(kind, layout, monkeypatch):
    def scaled(backend):
        monkeypatch.setattr(library, "FORCED", backend)
        generator = torch.Generator().manual_seed(1)
        x = (torch.randn(4, 8, 5, 8, generator=generator) * 1e30).contiguous(memory_format=layout).requires_grad_()
        dy = torch.randn(4, 8, 5, 8, generator=generator)
        return torch.autograd.grad(NORMS[kind](ops, x, None, None), x, dy)[0] * 1e30

    torch.testing.assert_close(scaled("cpu"), scaled("reference"), rtol=1e-5, atol=1e-5)


def test_statistics_in_evaluation_through_the_kernels():
    x = torch.randn(4, 6, 9, requires_grad=True)
    mean, var = torch.randn(6), torch.rand(6) + 0.5
    weight, bias = torch.rand(6, requires_grad=True), torch.rand(6, requires_grad=True)
    inputs = (x, weight, bias)
    ours = ops.batch_norm(x, mean, var, weight, bias)
    theirs = F.batch_norm(x, mean, var, weight, bias)
    torch.testing.assert_close(ours, theirs)
    dy = torch.randn_like(x)
    torch.testing.assert_close(torch.autograd.grad(ours, inputs, dy), torch.autograd.grad(theirs, inputs, dy))
    with torch.no_grad():
        torch.testing.assert_close(ops.batch_norm(x, mean, var, weight, bias), theirs)


def test_what_the_forced_kernels_cannot_do_is_refused():
    x = torch.randn(3, 4, 5).to(torch.float8_e5m2)
    with pytest.raises(
        RuntimeError, match=r"LEVELHEAD_BACKEND=cpu cannot serve a torch.float8_e5m2 of shape \(3, 4, 5"
    ):
        ops.layer_norm(x, (5,))


LARGE = {  # above 32 MB, where results are stored past the caches; some where a plane or a row is no whole vector
    "planes": (2, 5, 1024, 832),
    "planes, uneven": (9, 5, 433, 433),
    "columns": (128, 64, 32, 33),
    "columns, uneven": (128, 67, 32, 33),
    "rows": (11000, 768),
    "rows, uneven": (11000, 767),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LARGE)
def test_results_that_no_cache_holds(layout, dtype, threads):
    threads(2)
    shape = LARGE[layout]
    shape = (shape[0] * 4 // dtype.itemsize, *shape[1:])
    last = {"memory_format": torch.channels_last} if layout.startswith("columns") else {}
    x, residual, dy = (torch.randn(shape, dtype=dtype).contiguous(**last).requires_grad_() for _ in range(3))
    assert x.numel() * x.element_size() >= 2**25
    channels = shape[-1] if layout.startswith("rows") else shape[1]
    weight, bias = (torch.rand(channels, dtype=dtype, requires_grad=True) for _ in range(2))

    def gradients(y):
        return y.detach(), *torch.autograd.grad(y, [x, residual, weight, bias], dy.detach().to(y.dtype))

    def ours(input, added):
        extras = {"activation": "silu", "residual": added}
        if layout.startswith("rows"):
            return ops.layer_norm(input, (channels,), weight, bias, **extras)
        return ops.batch_norm(input, None, None, weight, bias, True, **extras)

    wide = [t.double() for t in (x, residual, weight, bias)]
    norm = F.layer_norm if layout.startswith("rows") else lambda t, _, w, b: F.batch_norm(t, None, None, w, b, True)
    expected = gradients(F.silu(norm(wide[0], (channels,), *wide[2:]) + wide[1]))
    rough = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-3, "atol": 1e-4}
    for found, wanted in zip(gradients(ours(x, residual)), expected, strict=True):
        scale = float(wanted.abs().max().clamp(min=1))  # of the parameters' gradients, which are sums
        off = (found.double() - wanted).abs() > rough["atol"] * scale + rough["rtol"] * wanted.abs()
        assert not off.any()


def test_dropout_before_a_norm_that_no_cache_holds(threads):
    threads(2)
    x, residual, dy = (torch.randn(11000, 768).requires_grad_() for _ in range(3))
    weight, bias = (torch.rand(768, requires_grad=True) for _ in range(2))
    inputs = [x, residual, weight, bias]
    torch.manual_seed(3)
    y, total = ops.dropout_add_layer_norm(x, residual, (768,), weight, bias, p=0.3)
    torch.manual_seed(3)
    expected = ops.dropout(x, 0.3) + residual
    torch.testing.assert_close(total, expected, rtol=0, atol=0)
    normed = F.layer_norm(expected, (768,), weight, bias)
    torch.testing.assert_close(y, normed)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, dy.detach()),
        torch.autograd.grad(normed, inputs, dy.detach()),
        rtol=1e-3,
        atol=1e-3,
    )
