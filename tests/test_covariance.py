"""Comoments against NumPy, in parts and under masks."""

import numpy as np
import pytest
import torch

from levelhead.covariance import Comoments
from levelhead.moments import Moments

# 1e-12: a few hundred roundings of float64; at offset 1e6, m2 of 1 a row, E[xx'] - mean mean' would be off by 1e-4.
CLOSE = {"rtol": 1e-12, "atol": 1e-10}


def mixed(rows, features=4, offset=0.0, dtype=torch.float64):
    mixing = torch.randn(features, features, dtype=torch.float64)
    return (torch.randn(rows, features, dtype=torch.float64) @ mixing + offset).to(dtype)


def check(seen, rows):
    rows = np.asarray(rows, dtype=np.float64).reshape(-1, len(seen.mean))
    assert int(seen.count) == len(rows)
    np.testing.assert_allclose(seen.mean, rows.mean(0), **CLOSE)
    np.testing.assert_allclose(seen.cov(), np.cov(rows.T, ddof=0), **CLOSE)
    np.testing.assert_allclose(seen.cov(1), np.cov(rows.T, ddof=1), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_of_rows(dtype):
    x = mixed(1000, dtype=dtype)
    check(Comoments.of(x), x.numpy())


def test_more_than_a_block_far_from_zero():
    x = mixed(100_000, 8, 1e6)
    seen = Comoments.of(x)
    deviation = x.numpy() - x.numpy().mean(0)
    # The mean of values at 1e6 is rounded at 1e-10; the products of deviations of 1 feel the square of it.
    np.testing.assert_allclose(seen.cov(), deviation.T @ deviation / len(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("shape", "dim"), [((30, 5, 4), 1), ((30, 4, 5), -1), ((5, 6, 3, 7), 1), ((9, 3), 1)])
def test_along_any_dimension(shape, dim):
    x = torch.randn(shape, dtype=torch.float64)
    check(Comoments.of(x, dim), x.movedim(dim, -1).numpy())


def test_parts_merge_to_the_whole_in_any_order():
    x = mixed(500, offset=1e3)
    parts = [Comoments.of(part) for part in x.split([1, 0, 17, 482])]
    assert int(parts[1].count) == 0
    for order in ((0, 1, 2, 3), (1, 3, 2, 0), (3, 1, 0, 2)):
        check(sum(parts[i] for i in order), x)
    none = Comoments.empty(4) + Comoments.empty(4)
    assert none.mean.isnan().all()
    assert (none.comoment == 0).all()
    check(none + Comoments.of(x), x)


def test_the_diagonal_is_the_moments():
    x = mixed(100)
    seen, alone = Comoments.of(x).moments, Moments.of(x, 0)
    np.testing.assert_allclose(seen.m2, alone.m2, **CLOSE)


def test_what_is_behind_the_mask_has_no_influence():
    x = mixed(60).reshape(5, 12, 4).transpose(1, 2)  # (rows, features, positions)
    mask = torch.rand(5, 1, 12) > 0.4
    poisoned = x.masked_fill(~mask, torch.nan)
    check(Comoments.of(poisoned, 1, mask), x.movedim(1, -1)[mask[:, 0]])
    check(Comoments.of(poisoned[:, :, 3:4], 1, torch.ones(5, 1, 1, dtype=torch.bool) & mask[:, :, 3:4]),
          x[:, :, 3][mask[:, 0, 3]])  # fmt: skip
    assert int(Comoments.of(x, 1, torch.zeros(1, 1, 1, dtype=torch.bool)).count) == 0


def test_integers_beyond_float64_keep_their_differences():
    x = torch.tensor([[0, 5], [1000, 2], [2000, 9], [3000, 1]]).repeat(100, 1)
    seen = Comoments.of(x + torch.tensor([2**60, -(2**61)]))
    np.testing.assert_allclose(seen.cov(), np.cov(x.double().numpy().T, ddof=0), rtol=1e-12)
    np.testing.assert_allclose(seen.mean, [2**60 + 1500, -(2**61)], rtol=1e-15)
    mask = (torch.arange(len(x)) % 2 > 0)[:, None]
    half = Comoments.of(x + 2**60, 1, mask)
    np.testing.assert_allclose(half.cov(), np.cov(x[1::2].double().numpy().T, ddof=0), rtol=1e-12)


def test_bad_input():
    x = mixed(5)
    with pytest.raises(TypeError, match="real numbers"):
        Comoments.of(x.to(torch.complex64))
    with pytest.raises(TypeError, match="mask must be boolean"):
        Comoments.of(x, 1, torch.ones(5, 1))
    with pytest.raises(ValueError, match=r"mask of shape \(5, 4\) cannot be broadcast to \(5, 1\)"):
        Comoments.of(x, 1, x > 0)
    with pytest.raises(IndexError, match="dimension 2 is out of range"):
        Comoments.of(x, 2)
    with pytest.raises(ValueError, match="4 and 3 features"):
        Comoments.of(x) + Comoments.of(x[:, :3])
