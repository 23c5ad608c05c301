"""The figures of a study against brute force, known cases and their promised coverage."""

import itertools
import math

import numpy as np
import pytest

from levelhead.records import Curve, Run
from levelhead.studies import outcome

INF = math.inf


def make_run(arm="plain", seed=0, scores=(0.1, 0.5, 0.9), status="finished", test=0.8):
    curves = {"validation_score": Curve(tuple(range(0, 10 * len(scores), 10)), tuple(scores))} if scores else {}
    return Run(arm, seed, status, 10 * len(scores), 1.0, "accuracy", {}, {}, curves, test)


def brute_force(sample):
    """Every ordered resample, one by one."""
    medians = sorted(float(np.median(draw)) for draw in itertools.product(sample, repeat=len(sample)))
    tail = math.ceil(0.025 * len(medians))
    return medians[tail - 1], medians[-tail]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_the_interval_is_that_of_every_ordered_resample(n):
    sample = np.random.default_rng(n).lognormal(size=n).tolist()
    got = outcome.median(sample)
    assert got.value == pytest.approx(float(np.median(sample)), rel=1e-15)
    assert (got.low, got.high) == pytest.approx(brute_force(sample), rel=1e-15)


def test_many_values_are_resampled_and_agree_with_the_order_statistics():
    # The binomial interval of the median of 41 values is the 14th to the 28th (coverage 97 %), or so.
    got = outcome.median([float(i) for i in range(1, 42)])
    assert got.value == 21
    assert 13 <= got.low <= 16
    assert 26 <= got.high <= 29
    assert outcome.median([float(i) for i in range(1, 42)]) == got, "the draws are seeded"


def test_the_interval_of_five_covers_as_often_as_is_said():
    # Distribution-free: P(min < median < max) = 1 - 2/32 = 0.9375. 4,000 trials: standard error 0.0038, 4 of them.
    trials = np.random.default_rng(1).exponential(size=(4000, 5))
    intervals = [outcome.median(trial.tolist()) for trial in trials[:400]]
    assert [(i.low, i.high) for i in intervals] == [(t.min(), t.max()) for t in trials[:400]]
    truth = math.log(2)
    covered = np.mean((trials.min(1) < truth) & (truth < trials.max(1)))
    assert abs(covered - 0.9375) < 4 * 0.0038


def test_the_interval_of_a_speedup_covers_the_true_ratio():
    # Two log-normal arms with true ratio of medians 2. 600 trials: standard error 0.009 at 0.95.
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(600):
        got = outcome.speedup((2 * rng.lognormal(5, 0.3, 5)).tolist(), rng.lognormal(5, 0.3, 5).tolist(), 10_000)
        hits += got.low <= 2 <= got.high
    assert 0.91 < hits / 600 < 0.995


def test_a_seed_that_did_not_reach_is_counted_not_dropped():
    assert outcome.median([100, 200, INF]).value == 200
    assert outcome.median([100, INF, INF]) == outcome.median([100.0, INF, INF])
    assert outcome.median([100, INF, INF]).value == INF
    assert outcome.median([100, INF]).value == INF
    assert outcome.median([100, 200, 300, 400, INF]).high == INF


def test_a_speedup_over_a_baseline_that_never_reached_is_a_lower_bound():
    got = outcome.speedup([INF] * 5, [100, 100, 110, 120, 125], budget=1000)
    assert (got.value, got.low, got.high) == (INF, 1000 / 125, INF)


def test_the_speedup_of_an_arm_that_never_reached_is_an_upper_bound():
    got = outcome.speedup([400, 410, 420, 430, 500], [INF] * 5, budget=1000)
    assert (got.value, got.low, got.high) == (0, 0, 0.5)


def test_nothing_is_known_where_neither_reached():
    got = outcome.speedup([INF] * 3, [INF] * 3, budget=1000)
    assert math.isnan(got.value)
    assert (got.low, got.high) == (0, INF)


def test_known_speedup():
    got = outcome.speedup([800.0] * 3, [400.0] * 3, budget=1000)
    assert (got.value, got.low, got.high) == (2, 2, 2)
    assert outcome.speedup([0.0], [0.0], 10).value == 1, "a target that holds from the start"


def test_a_row_counts_every_status():
    plain = [make_run(seed=s) for s in range(3)]
    runs = [
        make_run("BN", 0, (0.1, 0.95)),
        make_run("BN", 1, (0.2,), "diverged", math.nan),
        make_run("BN", 2, (), "failed", math.nan),
    ]
    row = outcome.row("BN", {"normalization": "batch"}, runs, 0.9, outcome.speedup_to_best(plain, runs, 30))
    assert (row.runs, row.diverged, row.failed, row.reached) == (3, 1, 1, 1)
    assert row.steps.value == INF
    assert (row.speedup.value, row.speedup.low) == (0, 0)
    assert row.best.value == pytest.approx(np.median([0.95, 0.2]))
    assert row.test.value == 0.8


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_the_speedup_to_the_best_resamples_the_target_too(missing):
    """Against every pair of ordered resamples of four runs, the whole figure worked out anew in each."""
    rng = np.random.default_rng(missing)
    plain, arm = (
        [make_run(name, seed, np.sort(rng.uniform(size=40) * top).tolist()) for seed in range(4)]
        for name, top in (("plain", 0.9), ("BN", 1.0))
    )
    for seed in range(missing):
        plain[seed] = make_run(seed=seed, scores=(), status="failed")
    budget, low, high = 400, [], []
    for some in itertools.product(plain, repeat=4):
        bests = sorted(run.score.best() for run in some if run.curves)
        if not bests:
            continue
        target = bests[(len(bests) - 1) // 2]
        top = np.median([outcome.steps_to(run, target) for run in some])
        for bottom in np.median(list(itertools.product([outcome.steps_to(r, target) for r in arm], repeat=4)), axis=1):
            low.append(min(top, budget) / bottom)
            high.append(top / min(bottom, budget))
    tail = math.ceil(0.025 * len(low)) - 1
    got = outcome.speedup_to_best(plain, arm, budget)
    assert (got.low, got.high) == pytest.approx((sorted(low)[tail], sorted(high)[-tail - 1]), rel=1e-12)
    assert got.low <= got.value <= got.high


def test_a_baseline_always_reaches_its_own_resampled_best():
    plain = [make_run(seed=i, scores=(0.1, 0.5, 0.8 + i / 100)) for i in range(5)]
    arm = [make_run("BN", i, (0.1, 0.9)) for i in range(5)]
    got = outcome.speedup_to_best(plain, arm, 30)
    assert (got.value, got.low, got.high) == (2, 2, 2)
    assert math.isnan(outcome.speedup_to_best([make_run(scores=(), status="failed")], arm, 30).value)
