"""Moments against float64 NumPy: any split, any order, hard inputs, bad input."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils._python_dispatch import TorchDispatchMode

from levelhead.covariance import Comoments
from levelhead.moments import Moments

# Float64 sums of at most a few thousand terms: 1e-12 is some 10 times their worst rounding, relative to the values.
EXACT = 1e-12


def assert_is(moments, values, axis=0):
    """The moments are those of the float64 array."""
    values = np.asarray(values, np.float64)
    scale = max(1.0, float(np.abs(values).max(initial=0)))
    np.testing.assert_array_equal(moments.count.expand(moments.shape), values.shape[axis])
    np.testing.assert_allclose(moments.mean, values.mean(axis), rtol=EXACT, atol=EXACT * scale)
    np.testing.assert_allclose(moments.var(), values.var(axis), rtol=1e-9, atol=EXACT * scale**2)


columns = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(1, 3)),
    elements=st.floats(-1e4, 1e4, allow_subnormal=False),
)


@given(values=columns, data=st.data())
@settings(deadline=None)
def test_any_split_merged_in_any_order_and_grouping_gives_the_whole(values, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=5)))
    parts = [Moments.of(torch.tensor(piece), 0) for piece in np.split(values, cuts)]  # some of them empty
    parts = data.draw(st.permutations(parts))
    while len(parts) > 1:  # merge any two neighbours: every grouping, not only from the left
        i = data.draw(st.integers(0, len(parts) - 2))
        parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
    assert_is(parts[0], values)


@given(values=columns, cut=st.integers(0, 40))
@settings(deadline=None)
def test_sum_stack_and_plus_are_the_same_merge(values, cut):
    parts = [Moments.of(torch.tensor(piece), 0) for piece in np.array_split(values, max(1, cut))]
    assert_is(sum(parts), values)
    assert_is(Moments.stack(parts).reduce(0), values)
    assert_is(sum(parts, Moments.empty((values.shape[1],))), values)


@given(values=columns, data=st.data())
@settings(deadline=None)
def test_a_mask_counts_only_what_it_lets_through(values, data):
    mask = data.draw(hnp.arrays(np.bool_, values.shape))
    hidden = np.where(mask, values, np.nan)  # not even NaN passes
    moments = Moments.of(torch.tensor(hidden), 0, torch.tensor(mask))
    for j in range(values.shape[1]):
        seen = values[mask[:, j], j]
        one = Moments(moments.count[j], moments.mean[j], moments.m2[j])
        if len(seen):
            assert_is(one, seen)
        else:
            assert int(one.count) == 0
            assert math.isnan(one.mean)
            assert float(one.m2) == 0


def layouts():
    image = torch.randn(20, 7, 50, 40, generator=torch.Generator().manual_seed(0)) * 3 + 100
    yield "NCHW", image, (0, 2, 3)
    yield "channels-last", image.contiguous(memory_format=torch.channels_last), (0, 2, 3)
    yield "per row", image, (1, 2, 3)
    yield "every other row", image[::2], (0, 2, 3)
    yield "two apart, negative", image, (-1, 1)
    yield "long row", image.view(2, -1), 1
    yield "long column", image.view(-1, 2), 0
    yield "many short rows", image.view(-1, 2), 1
    yield "few rows of many features", image.view(2, -1), 0
    yield "rows of a few thousand features", image.view(-1, 2000), 0  # cut both ways
    yield "a dimension kept on either side", image.view(4, 500, 140), 1
    yield "broadcast", image[:1].expand(20, -1, -1, -1), (0, 2, 3)
    yield "all", image, None


@pytest.mark.parametrize(("x", "dim"), [pytest.param(x, dim, id=name) for name, x, dim in layouts()])
@pytest.mark.parametrize("masked", [False, True])
def test_every_layout_is_cut_into_blocks_without_a_trace(x, dim, masked):
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) > 0.3 if masked else None
    moments = Moments.of(x, dim, mask)
    axis = tuple(range(x.ndim)) if dim is None else dim
    values = np.ma.MaskedArray(x.numpy().astype(np.float64), False if mask is None else ~mask.numpy())
    np.testing.assert_array_equal(moments.count.expand(moments.shape), values.count(axis))
    np.testing.assert_allclose(moments.mean, np.ma.filled(values.mean(axis), np.nan), rtol=EXACT)
    np.testing.assert_allclose(moments.var(), np.ma.filled(values.var(axis), np.nan), rtol=1e-9, atol=1e-9)


class Calls(TorchDispatchMode):
    """Counts what PyTorch is asked to do."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("of", [lambda x: Moments.of(x, 0), Comoments.of])
def test_on_a_device_where_each_call_is_a_launch_they_are_few(of):
    with Calls() as calls:
        of(torch.empty(400_000, 32, device="meta"))  # 12.8 million values: 400 blocks on the CPU
    assert calls.count < 30


def test_the_input_is_left_as_it_was():
    x = torch.randn(100_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    Moments.of(x, 0)
    Moments.of(x[:100], 0)
    assert torch.equal(x, before)


def test_large_mean_keeps_six_digits_where_the_textbook_formula_loses_all():
    x = np.random.default_rng(0).normal(1e4, 1.0, 100_000).astype(np.float32)
    truth = x.astype(np.float64).var()
    single = torch.from_numpy(x)
    textbook = float((single * single).mean() - single.mean() ** 2)
    assert abs(textbook - truth) > 0.1 * truth, "the input is too easy: the negative control must fail"
    assert abs(float(Moments.of(single).var()) - truth) < 1e-6 * truth
    pieces = [Moments.of(piece) for piece in single.split(997)]
    assert abs(float(sum(pieces).var()) - truth) < 1e-6 * truth


def test_merging_keeps_the_digits_of_sorted_data_at_an_offset():
    x = np.sort(np.random.default_rng(0).normal(1e8, 1.0, 10_000))
    assert float(sum(Moments.of(torch.tensor(p)) for p in np.split(x, 100)).var()) == pytest.approx(x.var(), rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_float64_kept(dtype):
    x = (torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)) + 100).to(dtype)
    moments = Moments.of(x, 0)
    assert moments.mean.dtype == moments.m2.dtype == torch.float64
    assert_is(moments, x.double().numpy())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_integers_and_booleans_count_as_numbers(dtype):
    x = torch.tensor([0, 1, 1, 1]).to(dtype)
    assert_is(Moments.of(x), x.numpy())


def test_integers_beyond_float64_keep_their_differences():
    x = torch.tensor([0, 1000, 2000, 3000]).repeat(20_000)
    columns = torch.stack([x + 10**18, x, -x - 10**18], 1)
    columns[0, 1] = 7
    found = Moments.of(columns, 0)
    exact = [np.array([int(v) - int(c[0]) for v in c], dtype=np.float64).std() for c in columns.T]
    np.testing.assert_allclose(found.std(), exact, rtol=1e-14)
    assert float(columns[:, 0].double().std(correction=0)) != pytest.approx(exact[0], rel=1e-3), (
        "float64 alone must fail"
    )
    np.testing.assert_allclose(found.mean, [1e18 + 1500, columns[:, 1].double().mean(), -1e18 - 1500], rtol=1e-15)
    mask = torch.ones(len(x), 1, dtype=torch.bool)
    mask[::2] = False
    half = [np.array([int(v) - int(c[0]) for v in c[1::2]], dtype=np.float64).std() for c in columns.T]
    np.testing.assert_allclose(Moments.of(columns, 0, mask).std(), half, rtol=1e-14)
    far = columns.clone()  # what is behind the mask decides nothing, the number that is taken off included
    far[::2] = -(2**63)
    np.testing.assert_allclose(Moments.of(far, 0, mask).std(), half, rtol=1e-14)
    assert Moments.of(far, 0, torch.zeros_like(mask)).mean.isnan().all()
    ends = torch.tensor([-(2**62) - 2**62, 2**62, 2**63 - 1])
    assert float(Moments.of(ends).mean) == pytest.approx(float(ends.double().mean()), rel=1e-15)


def test_unsigned_integers_of_64_bits():
    rows = [[1, 2**63 - 1, 2**64 - 4, 0], [2, 2**63, 2**64 - 2, 2**64 - 1], [6, 2**63 + 4, 2**64 - 3, 2**63]]
    x, mask = torch.tensor(rows, dtype=torch.uint64), torch.ones(3, 4, dtype=torch.bool)
    for found in (Moments.of(x, 0), Moments.of(x, 0, mask), Comoments.of(x).moments):
        columns = [[Fraction(v) for v in column] for column in zip(*rows, strict=True)]
        means = [sum(column) / 3 for column in columns]
        m2s = [sum((v - mean) ** 2 for v in column) for column, mean in zip(columns, means, strict=True)]
        np.testing.assert_allclose(found.mean, list(map(float, means)), rtol=1e-15)
        np.testing.assert_allclose(found.m2, list(map(float, m2s)), rtol=1e-14)


def test_empty_and_one_value():
    nothing, one = Moments.of(torch.zeros(0, 3), 0), Moments.of(torch.tensor([[1.0, 2.0, 3.0]]), 0)
    assert int(nothing.count) == 0
    assert nothing.mean.isnan().all()
    assert nothing.var().isnan().all()
    assert_is(one, [[1, 2, 3]])
    assert one.var(correction=1).isnan().all()  # one value says nothing about the spread
    assert_is(nothing + one, [[1, 2, 3]])
    assert_is(one + nothing, [[1, 2, 3]])
    assert not (nothing + nothing).count.any()
    assert (nothing + nothing).mean.isnan().all()


def test_no_dimension_at_all_makes_every_value_its_own_population():
    moments = Moments.of(torch.tensor([1.0, 2.0]), ())
    assert moments.mean.tolist() == [1, 2]
    assert moments.m2.tolist() == [0, 0]
    assert Moments.of(torch.tensor(3.0)).mean.item() == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [3, 50_000])
def test_a_value_that_is_not_finite_spoils_its_own_column_only(bad, rows):
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0))
    x[1, 1] = bad
    moments = Moments.of(x, 0)
    assert not moments.mean[1].isfinite()
    assert moments.m2[1].isnan()
    good = [0, 2]
    count = moments.count.expand(3)[good]
    assert_is(Moments(count, moments.mean[good], moments.m2[good]), x[:, good].numpy())


def test_variance_and_deviation_take_the_correction():
    x = [4.0, 7.0, 5.0]
    moments = Moments.of(torch.tensor(x))
    for correction in (0, 1):
        assert float(moments.var(correction)) == pytest.approx(np.var(x, ddof=correction), rel=EXACT)
        assert float(moments.std(correction)) == pytest.approx(np.std(x, ddof=correction), rel=EXACT)


def test_gradients_pass_through():
    x = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: (Moments.of(x, 0).mean, Moments.of(x, 0).var()), x)
    assert torch.autograd.gradgradcheck(lambda x: Moments.of(x, 0).std(), x)
    single = x.detach().float().requires_grad_()
    Moments.of(single, 0).var().sum().backward()
    expected = 2 * (single - single.mean(0)) / len(single)
    torch.testing.assert_close(single.grad, expected.detach())


def test_bad_input_is_named():
    x = torch.zeros(4, 3)
    with pytest.raises(TypeError, match=r"real numbers, got torch.complex64; take x.real"):
        Moments.of(x.to(torch.complex64))
    for call in (Moments.of, Comoments.of):
        with pytest.raises(TypeError, match=r"of a tensor, got list; try torch.as_tensor"):
            call(x.tolist())
        with pytest.raises(TypeError, match=r"dense tensor, got a torch.sparse_coo one; take x.to_dense\(\)"):
            call(x.to_sparse())
        with pytest.raises(TypeError, match=r"dense tensor, got a nested one; take x.values\(\)"):
            call(torch.nested.nested_tensor([x], layout=torch.jagged))
        with pytest.raises(TypeError, match=r"boolean tensor, got list; try torch.as_tensor"):
            call(x, 0, [True] * 4)
    with pytest.raises(TypeError, match=r"boolean.*got torch.float32; try mask.bool\(\)"):
        Moments.of(x, 0, torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"mask of shape \(4,\) cannot be broadcast to x of shape \(4, 3\)"):
        Moments.of(x, 0, torch.ones(4, dtype=torch.bool))
    with pytest.raises(IndexError, match=r"dimension 2 is out of range for x of shape \(4, 3\)"):
        Moments.of(x, 2)
    with pytest.raises(ValueError, match=r"shapes are the same, got \[\(3,\), \(4,\)\]"):
        Moments.of(x, 0).merge(Moments.of(x, 1))
    with pytest.raises(ValueError, match=r"shapes"):
        Moments.stack([])
    with pytest.raises(TypeError):
        Moments.of(x, 0) + 1
