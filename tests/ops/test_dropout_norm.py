"""Dropout, sum and norm as one step: the sum is dropout's own, the norm and the gradients are those of the parts."""

from __future__ import annotations

import os
import subprocess
import sys

import oracles
import pytest
import torch

from levelhead import ops
from levelhead.ops import cpu, dropout_norm, dropouts, library, philox
from levelhead.ops.philox import Noise

compiled = pytest.mark.skipif(not cpu.PRESENT, reason="the compiled kernels are absent")
TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
STATE = torch.tensor([2**61 + 99, 5])


@pytest.fixture
def kernel(monkeypatch):
    """The kernels at every size, and how often they ran."""
    monkeypatch.setattr(library, "FORCED", "cpu")
    calls = []
    for name in ("add_norm", "add_norm_backward"):
        original = getattr(cpu, name)
        monkeypatch.setattr(cpu, name, lambda *args, original=original: calls.append(args) or original(*args))
    return calls


def values(rows, length, dtype=torch.float64, count=4):
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(rows, length, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


def gradients(function, tensors, dy, dtotal):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y, total = function(*leaves)
    return y, total, *torch.autograd.grad((y, total), leaves, (dy, dtotal))


@compiled
@pytest.mark.parametrize("center", [True, False], ids=["layer", "rms"])
@pytest.mark.parametrize("length", [1, 3, 8, 31, 33, 768, 2047, 5000, 16385])
def test_it_is_the_composition_at_every_length(kernel, center, length):
    """Rows that start anywhere in a block of the generator, shorter than a vector and longer than a tile."""
    rows = max(3, 40_000 // length)
    x, residual, dy, dtotal = values(rows, length)
    weight, bias = torch.rand(2, length, dtype=torch.float64) + 0.5

    def fused(x, residual, weight, bias):
        bias_ = bias if center else None
        arguments = (STATE, 0.3, (length,), weight, bias_, 1e-5, center)
        y, total = dropouts.summed_and_normalized(x, residual, *arguments)
        return (y if center else y + bias), total

    def parts(x, residual, weight, bias):
        total = dropouts.summed(x, residual, STATE, 0.3)
        y = dropouts._norm(total, (length,), weight, bias if center else None, 1e-5, center)
        return (y if center else y + bias), total

    ours = gradients(fused, (x, residual, weight, bias), dy, dtotal)
    assert len(kernel) == 2
    theirs = gradients(parts, (x, residual, weight, bias), dy, dtotal)
    assert len(kernel) == 2
    threshold, scale = dropouts.rate(0.3)
    assert torch.equal(ours[1], philox.dropout(x, residual, Noise(STATE, threshold, scale)))
    # float64; a row of one has a variance of 0 and divides rounding errors by √eps = 0.003
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-9 if length == 1 else 1e-11)


@compiled
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_against_float64(kernel, dtype):
    """An error of a few roundings of the type; the sum has the bits of dropout alone."""
    x, residual, dy, dtotal = values(70, 300, dtype)
    weight, bias = (t.to(dtype) for t in torch.rand(2, 300) + 0.5)
    threshold, scale = dropouts.rate(0.2)

    def call(x, residual, weight, bias):
        return dropouts.summed_and_normalized(x, residual, STATE, 0.2, (300,), weight, bias, 1e-5, True)

    y, total, dx, dresidual, dweight, dbias = gradients(call, (x, residual, weight, bias), dy, dtotal)
    assert torch.equal(total, philox.dropout(x, residual, Noise(STATE, threshold, scale)))
    assert {t.dtype for t in (y, total, dx, dresidual, dweight, dbias)} == {dtype}

    noise = philox.factors(Noise(STATE, threshold, scale), x.double())[1].numpy()
    s, w, b, g, other = (t.detach().double().numpy() for t in (total, weight, bias, dy, dtotal))
    at = oracles.grouping("layer", (70, 300))
    z = oracles.normalize(s, at, 1e-5)
    dsum = oracles.normalize_backward(g * w, s, at, 1e-5) + other
    exact = (z * w + b, dsum * noise, dsum, (g * z).sum(0), g.sum(0))
    # roundings of the largest value: two, and √70 for a running sum of 70 rows; in float64 the oracle has its own
    roundings = (2, 2, 2, 70**0.5, 70**0.5)
    for ours, truth, allowed in zip((y, dx, dresidual, dweight, dbias), exact, roundings, strict=True):
        error = abs(ours.detach().double().numpy() - truth).max() / abs(truth).max()
        assert error < (2 if dtype == torch.float64 else 1) * allowed * torch.finfo(dtype).eps


@compiled
@pytest.mark.parametrize("which", ["y", "total"])
def test_only_one_of_the_two_results_is_used(kernel, which):
    x, residual, dy, _ = values(50, 100)
    leaves = [x.requires_grad_(), residual.requires_grad_()]
    results = []
    for fused in (True, False):
        if fused:
            y, total = dropouts.summed_and_normalized(*leaves, STATE, 0.4, (100,), None, None, 1e-5, True)
        else:
            total = dropouts.summed(*leaves, STATE, 0.4)
            y = ops.layer_norm(total, (100,))
        results.append(torch.autograd.grad(y if which == "y" else total, leaves, dy))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@compiled
def test_first_and_second_derivatives(kernel):
    x, residual = (t.requires_grad_() for t in values(3, 7, count=2))
    weight, bias = (torch.rand(7, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def call(x, residual, weight, bias):
        y, total = dropouts.summed_and_normalized(x, residual, STATE, 0.3, (7,), weight, bias, 1e-2, True)
        z, _ = dropouts.summed_and_normalized(total, y, STATE, 0.3, (7,), weight, None, 1e-2, False)
        return y, total, z

    assert torch.autograd.gradcheck(call, (x, residual, weight, bias))
    assert torch.autograd.gradgradcheck(call, (x, residual, weight, bias))
    assert kernel


@compiled
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_and_what_is_saved(kernel, threads):
    x, residual, dy, dtotal = values(1200, 100, torch.float32)
    saved = []

    def call(x, residual, weight):
        return dropouts.summed_and_normalized(x, residual, STATE, 0.4, (100,), weight, None, 1e-5, True)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        first = gradients(call, (x, residual, torch.ones(100)), dy, dtotal)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
            again = gradients(call, (x, residual, torch.ones(100)), dy, dtotal)
        torch.set_num_threads(1)
        single = gradients(call, (x, residual, torch.ones(100)), dy, dtotal)
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, first, again))  # bit for bit at a fixed number of threads
    assert all(map(torch.equal, first[:4], single[:4]))  # the parameters' sums alone are of another order
    assert sorted(saved) == [2, 100, 2400, 120_000]


@compiled
@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(name):
    if name not in cpu._module.instruction_sets():
        pytest.skip(f"this CPU has no {name}")
    program = (
        "import torch; from levelhead import ops; from levelhead.ops import cpu\n"
        "x, r = torch.arange(90_000.).sin().view(300, 300), torch.arange(90_000.).cos().view(300, 300)\n"
        "x.requires_grad_(); torch.manual_seed(3); y, t = ops.dropout_add_layer_norm(x, r, (300,), p=0.3)\n"
        "(y.sin().sum() + t.sum()).backward()\n"
        "print(cpu.instruction_set(), float(t.double().sum()), float(y.double().abs().sum()), float(x.grad.norm()))"
    )
    run = [
        subprocess.run([sys.executable, "-c", program], env={**os.environ, **more}, capture_output=True, check=True)
        for more in ({"LEVELHEAD_CPU": name}, {"LEVELHEAD_BACKEND": "reference"})
    ]
    (which, total, *ours), (_, exact, *theirs) = (done.stdout.decode().split() for done in run)
    assert (which, total) == (name, exact)  # the same bits
    torch.testing.assert_close(*(torch.tensor([float(v) for v in vs]) for vs in (ours, theirs)), rtol=1e-5, atol=0)


@compiled
@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_fault_stays_in_its_row(kernel, bad):
    x, residual, *_ = values(40, 60, torch.float32)
    residual[7, 5] = float(bad)
    y, total = dropouts.summed_and_normalized(x, residual, STATE, 0.5, (60,), None, None, 1e-5, True)
    assert torch.isnan(y[7]).all()
    assert torch.isfinite(y[torch.arange(40) != 7]).all()
    assert torch.equal(torch.isfinite(total), torch.isfinite(residual))


@compiled
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a | {"x": a["x"].t().contiguous().t()},
        lambda a: a | {"residual": a["residual"].t().contiguous().t()},
        lambda a: a | {"residual": a["residual"].double()},
        lambda a: a | {"weight": a["weight"].double()},
        lambda a: a | {"weight": a["weight"][:-1]},
        lambda a: a | {"shape": (41,)},
        lambda a: a | {"shape": ()},
        lambda a: a | {"shape": (2, 300, 40)},
        lambda a: a | {"x": a["x"][:0], "residual": a["residual"][:0]},
    ],
)
def test_what_the_kernel_does_not_serve(monkeypatch, change):
    arguments = {
        "x": torch.randn(3000, 40),
        "residual": torch.randn(3000, 40),
        "shape": (40,),
        "weight": torch.ones(40),
    }
    assert dropout_norm.serves(*arguments.values())
    assert not dropout_norm.serves(*change(arguments).values())


def test_mistakes_are_named_as_by_the_parts():
    x = torch.randn(3000, 40)
    for shape, weight in (((41,), None), ((40,), torch.ones(41)), ((), None)):
        with pytest.raises(RuntimeError, match="normalized_shape"):
            ops.dropout_add_layer_norm(x, x, shape, weight)
