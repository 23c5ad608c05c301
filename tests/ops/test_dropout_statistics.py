"""Whether the masks are random: rate, uniformity, and independence along every axis.

Every statistic is compared with its distribution under independence. A test fails by chance with a probability of
1e-6 at most; the seeds are fixed, so that it does not come and go.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from levelhead import ops
from levelhead.ops import philox
from levelhead.ops.dropouts import draw, rate

CHANCE = 1e-6
SEEDS = [0, 1, 2]
ROWS, COLUMNS = 1024, 768


def halves(seed, count=2**20):
    torch.manual_seed(seed)
    return philox.halves(draw(), count).numpy()


def assert_uncorrelated(a, b):
    """n products of independent standardized values have mean 0 and standard deviation 1/sqrt(n)."""
    a, b = ((v - v.mean()) / v.std() for v in (np.asarray(a, float).ravel(), np.asarray(b, float).ravel()))
    assert abs((a * b).mean()) * math.sqrt(a.size) < stats.norm.isf(CHANCE / 2)


def chi_square_is_plausible(counts):
    """On both sides: a fit that is too good is no chance either."""
    p = stats.chisquare(counts).pvalue
    return CHANCE / 2 < p < 1 - CHANCE / 2


def assert_uniform(values, cells):
    counts = np.bincount(values, minlength=cells)
    assert counts.size == cells
    assert chi_square_is_plausible(counts)


@pytest.mark.parametrize("p", [1e-3, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_rate_is_binomial(seed, p):
    threshold, _ = rate(p)
    torch.manual_seed(seed)
    dropped = int((ops.dropout(torch.ones(ROWS, COLUMNS), p) == 0).sum())
    test = stats.binomtest(dropped, ROWS * COLUMNS, threshold / philox.LEVELS)
    assert test.pvalue > CHANCE


@pytest.mark.parametrize("axis", [0, 1])
def test_the_rate_of_every_row_and_column_is_binomial(axis):
    """The counts over lines, as a chi-square of their standardized deviations."""
    torch.manual_seed(0)
    dropped = (ops.dropout(torch.ones(ROWS, COLUMNS), 0.1) == 0).sum(axis).double().numpy()
    n, p = (ROWS, COLUMNS)[axis], rate(0.1)[0] / philox.LEVELS
    statistic = ((dropped - n * p) ** 2 / (n * p * (1 - p))).sum()
    assert CHANCE / 2 < stats.chi2.sf(statistic, dropped.size) < 1 - CHANCE / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_values_of_16_bits_are_uniform(seed):
    values = halves(seed, 2**21)  # 32 expected in each of 65536 cells
    assert_uniform(values, philox.LEVELS)
    for place in range(8):  # each place in a block of its own
        assert_uniform(values[place::8] >> 8, 256)


@pytest.mark.parametrize("seed", SEEDS)
def test_pairs_of_neighbours_are_uniform(seed):
    values = halves(seed) >> 10  # 6 bits
    for lag in (1, 2, 4, 8, 16, 64, 128, 2048):
        assert_uniform(values[lag:] * 64 + values[:-lag], 4096)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_elements_are_independent_along_both_axes(p):
    torch.manual_seed(0)
    dropped = (ops.dropout(torch.ones(ROWS, COLUMNS), p) == 0).numpy()
    for lag in (1, 2, 3, 4, 7, 8, 16, 32, 64, 128, 256):
        assert_uncorrelated(dropped[:, lag:], dropped[:, :-lag])
        assert_uncorrelated(dropped[lag:], dropped[:-lag])
        assert_uncorrelated(dropped[lag:, lag:], dropped[:-lag, :-lag])


def test_layers_and_steps_are_independent():
    """Successive calls, in and across layers, and 30 calls of one seed against one another."""
    torch.manual_seed(0)
    masks = [(ops.dropout(torch.ones(2**15), 0.5) == 0).numpy() for _ in range(30)]
    for k, mask in enumerate(masks):
        for other in masks[:k]:
            assert_uncorrelated(mask, other)


@pytest.mark.parametrize("difference", [1, 2, 2**31, 2**32, 2**61])
@pytest.mark.parametrize("which", [0, 1])
def test_neighbouring_seeds_and_streams_are_independent(which, difference):
    """States that the generator will hardly ever draw, but that a user may choose: (0, 0), (1, 0), (0, 1)..."""
    first, second = torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    second[which] = difference
    a, b = (philox.halves(state, 2**18).numpy() for state in (first, second))
    assert_uncorrelated(a, b)
    assert_uniform((a >> 10) * 64 + (b >> 10), 4096)
    assert_uniform((a ^ b) >> 4, 4096)


def test_successive_seeds_of_manual_seed_are_independent():
    a, b = halves(100), halves(101)
    assert_uncorrelated(a, b)
    assert_uniform((a ^ b) >> 4, 4096)


@pytest.mark.parametrize("rounds", [1, 2])
def test_too_few_rounds_are_caught(rounds):
    """The negative control: these tests can fail."""
    block = torch.arange(2**17)
    zero = torch.zeros_like(block)
    words = torch.stack(philox.philox((block, zero, zero, zero), (zero, zero), rounds), -1)
    values = torch.stack((words & 0xFFFF, words >> 16), -1).flatten().numpy()
    assert not chi_square_is_plausible(np.bincount(values, minlength=philox.LEVELS))


def test_a_little_dependence_is_caught():
    """Two masks that share one element in twenty."""
    first, second = (halves(seed, 2**16) < philox.LEVELS // 2 for seed in (0, 1))
    assert_uncorrelated(first, second)
    shared = halves(3, 2**16) < philox.LEVELS // 20
    with pytest.raises(AssertionError):
        assert_uncorrelated(first, np.where(shared, first, second))
