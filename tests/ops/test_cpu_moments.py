"""The compiled moments: against float64 NumPy on every instruction set, bits at any thread count, opting out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from levelhead import moments
from levelhead.moments import Moments
from levelhead.ops import cpu, cpu_moments, library

pytestmark = pytest.mark.skipif(not cpu.PRESENT, reason=f"no compiled kernels: {cpu.ABSENT}")

# Sums in double of at most 8,192 terms, whose rounding grows with the square root: some 100 units of 2**-53 at most.
EXACT = 1e-14

FORMS = {
    "planes of 7": ((5, 3, 7), (0, 2)),
    "planes longer than a piece": ((2, 3, 9001), (0, 2)),
    "many examples of short planes": ((700, 3, 5), (0, 2)),
    "a row": ((20_011,), (0,)),
    "rows": ((6, 4097), (1,)),
    "rows of two": ((301, 2), (1,)),
    "per example and channel": ((4, 3, 8, 9), (2, 3)),
    "columns that are folded": ((10_007, 3), (0,)),
    "few narrow columns": ((33, 7), (0,)),
    "columns with a rest": ((333, 129), (0,)),
    "columns of more than a tile": ((100, 1030), (0,)),
    "two rows": ((2, 70), (0,)),
}


@pytest.fixture(params=cpu._module.instruction_sets() if cpu.PRESENT else [])
def instruction_set(request):
    """Every instruction set of this CPU and build, in turn."""
    before = cpu.instruction_set()
    cpu._module.use(request.param)
    yield request.param
    cpu._module.use(before)


def by_kernel(x, dims, ignore_nan=False):
    found = cpu_moments.fast(x, tuple(d % x.ndim for d in dims), ignore_nan)
    assert found is not None, "the kernel did not serve"
    return [part.numpy() for part in found]


def assert_exact(x, dims, ignore_nan=False, rtol=EXACT):
    """As NumPy has it in extended precision; the mean to the rounding of the values that it is of."""
    count, mean, m2 = by_kernel(x, dims, ignore_nan)
    values = x.double().numpy().astype(np.longdouble)
    known = ~np.isnan(values) if ignore_nan else np.ones(values.shape, bool)
    np.testing.assert_array_equal(count, known.sum(dims))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of nothing but NaN
        center, var = (f(values, axis=dims) for f in ((np.nanmean, np.nanvar) if ignore_nan else (np.mean, np.var)))
    size = np.abs(center) + np.sqrt(var)
    np.testing.assert_array_equal(np.isnan(mean), np.isnan(size))
    assert np.nanmax(np.abs(mean - center) / size) < rtol
    np.testing.assert_allclose((m2 / np.maximum(count, 1))[count > 0], var[count > 0], rtol=rtol, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_form_and_type_is_exact(form, dtype, instruction_set):
    shape, dims = FORMS[form]
    x = (torch.randn(shape) + 8).to(dtype)
    assert_exact(x, dims)
    x[torch.rand(shape) < 0.2] = torch.nan
    x[(0,) * x.ndim] = torch.nan  # not even the first value, which the sums start at
    assert_exact(x, dims, ignore_nan=True)


@pytest.mark.parametrize("make", [
    pytest.param(lambda: (torch.randn(4, 6, 5, 5).contiguous(memory_format=torch.channels_last), (0, 2, 3)), id="last"),
    pytest.param(lambda: (torch.randn(20, 64, 11)[:, 5:50, 2:9], (0, 2)), id="gaps between planes"),
    pytest.param(lambda: (torch.randn(300, 64)[::2, 3:50], (0,)), id="gaps between rows"),
    pytest.param(lambda: (torch.randn(20, 50)[:, :30], (0, 1)), id="gaps, all reduced"),
    pytest.param(lambda: (torch.randn(30, 20).T, (1,)), id="transposed"),
])  # fmt: skip
def test_views_are_read_where_they_lie(make, instruction_set):
    assert_exact(*make())


def test_hard_inputs_lose_no_digits(instruction_set):
    first_is_far = torch.randn(5000, 3)
    first_is_far[0] = 1e6
    assert_exact(first_is_far, (0,))
    sorted_rows = torch.randn(50_000, dtype=torch.float64).sort().values.view(-1, 1).expand(-1, 2).contiguous() * 1e3
    assert_exact(sorted_rows, (0,), rtol=1e-13)  # 6 blocks and their means, each rounded
    assert_exact(torch.randn(7, 9, dtype=torch.float64) * 1e-150, (0,))
    late = torch.cat([torch.full((9000, 3), torch.nan), torch.randn(9000, 3) + 1e3])
    assert_exact(late, (0,), ignore_nan=True, rtol=1e-12)  # its mean is known to 2**-53 of 1,000 deviations


def test_a_constant_has_no_spread_at_all():
    for x in (torch.full((9001, 3), 0.1, dtype=torch.float64), torch.full((9001, 3), 1e30)):
        _, mean, m2 = by_kernel(x, (0,))
        np.testing.assert_array_equal(mean, x[0].double())
        np.testing.assert_array_equal(m2, 0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("at", [0, 700])
def test_what_is_not_finite_spoils_its_own_channel(bad, at):
    x = torch.randn(701, 4, 3)
    x[at, 1, 1] = bad
    _, mean, m2 = by_kernel(x, (0, 2))
    assert np.isfinite(mean).tolist() == [True, False, True, True]
    assert np.isnan(m2).tolist() == [False, True, False, False]


def test_the_bits_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        for x, dims in (
            (torch.randn(8, 16, 64, 64), (0, 2, 3)),
            (torch.randn(200_000, 5), (0,)),
            (torch.randn(9, 9**5), (1,)),
        ):
            results = []
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                results.append(by_kernel(x, dims))
            for other in results[1:]:
                for one, same in zip(results[0], other, strict=True):
                    np.testing.assert_array_equal(one, same)
    finally:
        torch.set_num_threads(before)


def test_moments_of_takes_the_kernel_and_gives_what_the_blocks_give(monkeypatch):
    x = torch.randn(40, 6, 7)
    calls = []
    monkeypatch.setattr(moments, "_fast", [lambda *arguments: calls.append(arguments) or cpu_moments.fast(*arguments)])
    x[3, 2, 1] = torch.nan
    fast = [Moments.of(x, (0, -1)), Moments.of(x, (0, -1), ignore_nan=True)]
    assert [arguments[1:] for arguments in calls] == [((0, 2), False), ((0, 2), True)]
    monkeypatch.setattr(moments, "_fast", [])
    slow = [Moments.of(x, (0, -1)), Moments.of(x, (0, -1), ignore_nan=True)]
    for one, other in zip(fast, slow, strict=True):
        assert one.count.dtype == other.count.dtype
        assert one.count.shape == other.count.shape
        assert torch.equal(one.count, other.count)
        torch.testing.assert_close(one.mean, other.mean, equal_nan=True, rtol=EXACT, atol=EXACT)
        torch.testing.assert_close(one.m2, other.m2, equal_nan=True, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # vmap has no rule for square_
def test_the_kernel_steps_back(monkeypatch):
    x = torch.randn(40, 6)
    assert cpu_moments.fast(x, (0,), False) is not None
    refused = {
        "gradients": x.clone().requires_grad_(),
        "integers": x.long(),
        "nothing": x[:0],
        "a hole in every row": x[:, ::2],
        "broadcast": x[:1].expand(40, -1),
        "negated when read": torch._neg_view(x),
        "kept in another order": torch.randn(2, 3, 4).permute(1, 0, 2),
    }
    dims = {"kept in another order": (2,)}
    for why, y in refused.items():
        at = dims.get(why, (0,))
        assert cpu_moments.fast(y, at, False) is None, why
        if y.numel():
            torch.testing.assert_close(Moments.of(y, at).mean, y.double().mean(at), rtol=1e-12, atol=1e-12)
    assert cpu_moments.fast(x, (), False) is None
    by_row = torch.func.vmap(lambda row: Moments.of(row, 0).mean)(x)
    torch.testing.assert_close(by_row, x.double().mean(1), rtol=1e-12, atol=1e-12)
    compiled = torch.compile(lambda x: Moments.of(x, 0).var(), backend="eager")(x)
    torch.testing.assert_close(compiled, x.double().var(0, correction=0), rtol=1e-12, atol=1e-12)
    with monkeypatch.context() as forced:
        forced.setattr(library, "FORCED", "reference")
        assert cpu_moments.fast(x, (0,), False) is None
    monkeypatch.setattr(cpu, "PRESENT", False)
    assert cpu_moments.fast(x, (0,), False) is None
    torch.testing.assert_close(Moments.of(x, 0).mean, x.double().mean(0), rtol=1e-12, atol=1e-12)
