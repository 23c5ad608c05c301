"""The figures of a study against brute force, known cases and their promised coverage."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import CensoredData, logrank, permutation_test

from levelhead.records import Curve, Run
from levelhead.studies import outcome

INF = math.inf


def make_run(arm="plain", seed=0, scores=(0.1, 0.5, 0.9), status="finished", test=0.8):
    curves = {"validation_score": Curve(tuple(range(0, 10 * len(scores), 10)), tuple(scores))} if scores else {}
    return Run(arm, seed, status, 10 * len(scores), 1.0, "accuracy", {}, {}, curves, test)


@pytest.mark.parametrize(
    ("n", "level", "cut"), [(5, 0.05, 1), (5, 0.01, 0), (10, 0.01, 1), (20, 0.015, 5), (41, 0.05, 14)]
)
def test_the_order_statistics_are_those_of_the_sign_test(n, level, cut):
    # From any table of the binomial: of 20 the 5th to the 16th miss the median with 1.2 %, of 41 the 14th to the 28th
    # with 2.8 %; of 5 their range with 6.25 %, which is let pass for 5 %.
    assert outcome._cut(n, level) == cut
    got = outcome.median([float(i) for i in range(1, n + 1)])
    assert got.value == (n + 1) / 2
    if level == 0.05:
        assert (got.low, got.high) == (cut, n + 1 - cut)


def test_the_interval_of_five_covers_as_often_as_is_said():
    # Distribution-free: P(min < median < max) = 1 - 2/32 = 0.9375. 4,000 trials: standard error 0.0038, 4 of them.
    trials = np.random.default_rng(1).exponential(size=(4000, 5))
    intervals = [outcome.median(trial.tolist()) for trial in trials[:400]]
    assert [(i.low, i.high) for i in intervals] == [(t.min(), t.max()) for t in trials[:400]]
    truth = math.log(2)
    covered = np.mean((trials.min(1) < truth) & (truth < trials.max(1)))
    assert abs(covered - 0.9375) < 4 * 0.0038


def test_the_interval_of_a_speedup_covers_the_true_ratio():
    # Two log-normal arms that share a seed's luck, true ratio of medians 2. 2,000 trials: standard error 0.005.
    rng, hits = np.random.default_rng(2), 0
    for _ in range(2000):
        luck = rng.normal(5, 1, 5)
        slow, fast = (np.exp(luck + rng.normal(0, 0.3, 5)) for _ in range(2))
        got = outcome.speedup((2 * slow).tolist(), fast.tolist(), 1e9)
        hits += got.low <= 2 <= got.high
    assert abs(hits / 2000 - 0.95) < 4 * 0.005


@pytest.mark.parametrize("n", [5, 8, 20])
def test_the_interval_of_censored_runs_covers_the_true_ratio(n):
    # The interval holds the true factor where the test of that factor says so: 2,000 trials, standard error 0.005.
    rng, hits = np.random.default_rng(n), 0
    for _ in range(2000):
        slow, fast = 2 * np.exp(rng.normal(5, 0.5, n)), np.exp(rng.normal(5, 0.5, n))
        slow[slow > 350], fast[fast > 350] = INF, INF  # the half of the slow arm, a twentieth of the fast one
        hits += outcome.of_steps(slow.tolist(), fast.tolist(), 350).p(2.0) > 0.05
    assert hits / 2000 > 0.95 - 3 * 0.005


def censored(n, seed=0, ratio=1.5):
    rng = np.random.default_rng(seed)
    slow, fast = ratio * np.exp(rng.normal(6, 0.3, n)), np.exp(rng.normal(6, 0.3, n))
    return [np.where(taken > 500, INF, taken) for taken in (slow, fast)]


@pytest.mark.parametrize("n", [4, 12])
def test_the_statistic_of_censored_runs_is_scipys_logrank(n):
    slow, fast = censored(n)
    ours, _ = outcome.logrank(slow, fast, 500)
    data = [CensoredData.right_censored(np.minimum(taken, 500), taken > 500) for taken in (fast, slow)]
    events = np.unique(np.concatenate([slow, fast])[np.concatenate([slow, fast]) <= 500])
    risk = [(taken[:, None] >= events).sum(0) for taken in (slow, fast)]
    variance = sum(a * b / (a + b) ** 2 for a, b in zip(*risk, strict=True))  # of events without ties
    assert ours == pytest.approx(logrank(*data).statistic * math.sqrt(variance))


@pytest.mark.parametrize(("n", "resamples"), [(4, np.inf), (9, 1000)])
def test_the_p_of_censored_runs_is_that_of_their_divisions(n, resamples):
    slow, fast = censored(n, ratio=1.25)

    def ahead(x, y):
        return outcome.logrank(x, y, 500)[0]

    brute = permutation_test((slow, fast), ahead, n_resamples=resamples, rng=0)
    share = np.mean(np.abs(brute.null_distribution) >= abs(brute.statistic) - 1e-9)
    off = 4 * math.sqrt(share * (1 - share) / resamples) + 0.01 * (n > 7)  # beyond 7, Student's t stands for them
    assert outcome.logrank(slow, fast, 500)[1] == pytest.approx(share, abs=max(off, 1e-12))


def test_the_interval_of_censored_runs_is_what_the_test_does_not_refuse():
    slow, fast = [300.0, 340.0, 360.0, 420.0, 450.0, INF], [200.0, 230.0, 240.0, 280.0, 310.0, 320.0]
    known = outcome.of_steps(slow, fast, 500)
    got = known.interval()
    assert 1 < got.low < got.value < got.high
    assert [known.p(end * off) > 0.05 for end in (got.low, got.high) for off in (0.999, 1.001)] == [0, 1, 1, 0]
    assert known.p(got.value) > 0.5
    again = outcome.of_steps(fast, slow, 500).interval()
    assert (again.low, again.value, again.high) == pytest.approx((1 / got.high, 1 / got.value, 1 / got.low), rel=1e-4)


def test_a_grid_of_evaluations_leaves_open_what_it_does_not_tell():
    taken = [*np.linspace(200, 480, 10).tolist(), INF, INF]
    narrow, wide = (outcome.speedup(taken, [t * 0.99 for t in taken], 500, every) for every in (0, 20))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_identical_arms_show_no_difference_and_it_is_known_to_the_grid():
    taken = [400.0, 420.0, 500.0, 380.0, 440.0]
    got = outcome.speedup(taken, taken, 1000, every=25)
    # By hand: s of a difference of two uniform errors of width 25, t(0.975, 4) = 2.776445.
    spread = math.sqrt(sum(2 * 25**2 / 12 / t**2 for t in taken) / 5)
    assert got.value == 1
    assert (got.low, got.high) == pytest.approx([math.exp(s * 2.776445 * spread / math.sqrt(5)) for s in (-1, 1)])
    missed = outcome.of_steps([*taken[:3], INF, INF], [*taken[:3], INF, INF], 1000, every=25)
    assert missed.interval().value == pytest.approx(1)
    assert missed.p(1) == 1


def test_identical_arms_with_other_seeds_rarely_differ():
    # A/A: of 2,000 studies of 5 seeds at most 5 % show a difference (7.25 with 3.5 standard errors of the bounds').
    rng = np.random.default_rng(0)
    for budget in (1e9, 400):
        false = 0
        for _ in range(2000):
            draws = np.exp(rng.normal(5.7, 0.4, (2, 5)))
            draws[draws > budget] = INF
            false += outcome.of_steps(*draws.tolist(), budget, every=25).p(1) <= 0.05
        assert false / 2000 < 0.0725


def test_the_target_is_a_share_of_the_best_and_above_chance():
    runs = [make_run(seed=i, scores=(0.1, 0.5, best)) for i, best in enumerate((0.8, 0.9, 0.95))]
    assert outcome.goal(outcome.best_scores(runs), 0.2) == pytest.approx(0.98 * 0.9)
    assert outcome.goal(outcome.best_scores(runs), 0.89) == 0.89
    assert outcome.goal([-1.0], -math.inf) == pytest.approx(-1.02), "an r2 below 0"


def test_chance_is_the_most_frequent_class_of_the_training_rows():
    split = lambda *y: SimpleNamespace(targets=torch.tensor(y))  # noqa: E731
    for times, luck in ((10, 0.75 + 2 * math.sqrt(0.75 * 0.25 / 40)), (1, 1 - 0.5 / 4)):  # no mistake is no luck
        validation = split(*[0, 1, 1, 1] * times)
        data = SimpleNamespace(metric="accuracy", train=split(0, 1, 1), validation=validation)
        assert outcome.chance(data) == pytest.approx((0.75, luck))
    assert outcome.chance(SimpleNamespace(metric="r2")) == (0, 0)
    # By hand, of 10 and of 30 rows: the mean of two shares of 1/2, each known to sqrt(1/4 / n).
    data = SimpleNamespace(metric="balanced accuracy", validation=split(*[0, 1, 1, 1] * 10))
    assert outcome.chance(data) == pytest.approx((0.5, 0.5 + 2 * math.sqrt(0.25 / 10 + 0.25 / 30) / 2))


def test_a_seed_that_did_not_reach_is_counted_not_dropped():
    assert outcome.median([100, 200, INF]).value == 200
    assert outcome.median([100, INF, INF]) == outcome.median([100.0, INF, INF])
    assert outcome.median([100, INF, INF]).value == INF
    assert outcome.median([100, INF]).value == INF
    assert outcome.median([100, 200, 300, 400, INF]).high == INF


def test_a_speedup_over_a_baseline_that_never_reached_is_a_lower_bound():
    got = outcome.speedup([INF] * 5, [100, 100, 110, 120, 125], budget=1000)
    # By hand: times up to 1000/120 four of five are there by the budget and none of the others: 2 C(5, 4) of 252
    # divisions are so, p = 0.04; times more, three are: 2 C(7, 2) / 252 = 0.17.
    assert (got.value, got.low, got.high) == (INF, pytest.approx(1000 / 120, rel=1e-5), INF)


def test_the_speedup_of_an_arm_that_never_reached_is_an_upper_bound():
    got = outcome.speedup([400, 410, 420, 430, 500], [INF] * 5, budget=1000)
    assert (got.value, got.low, got.high) == (0, 0, pytest.approx(0.43, rel=1e-5))


def test_nothing_is_known_where_neither_reached():
    got = outcome.speedup([INF] * 3, [INF] * 3, budget=1000)
    assert math.isnan(got.value)
    assert (got.low, got.high) == (0, INF)


def test_known_speedup():
    got = outcome.speedup([800.0] * 3, [400.0] * 3, budget=1000)
    assert (got.value, got.low, got.high) == pytest.approx((2, 2, 2))
    one = outcome.speedup([0.0], [0.0], 10)
    assert (one.value, one.low, one.high) == (1, 0, INF), "a target that holds from the start; one seed shows nothing"


def test_below_four_seeds_a_miss_leaves_everything_open():
    got = outcome.speedup([INF] * 3, [100] * 3, budget=1000)  # 2 of the 20 divisions are so
    assert (got.value, got.low, got.high) == (INF, 0, INF)


def test_a_row_counts_every_status():
    runs = [
        make_run("BN", 0, (0.1, 0.95)),
        make_run("BN", 1, (0.2,), "diverged", math.nan),
        make_run("BN", 2, (), "failed", math.nan),
    ]
    base = [make_run("plain", seed, (0.1, 0.2, 0.98)) for seed in range(3)]
    row = outcome.row("BN", {"normalization": "batch"}, runs, base, 0.97, None)
    assert (row.runs, row.diverged, row.failed, row.reached) == (3, 1, 1, 0)
    assert row.steps.value == INF
    assert outcome.row("BN", {}, runs, base, 0.9, None).reached == 1
    assert row.best.value == pytest.approx(np.median([0.95, 0.2]))
    assert row.test.value == 0.8


def test_shares_that_reached_are_compared_by_fishers_test():
    # The lady tasting tea: 3 of 4 and 1 of 4 have p = 34/70; 5 of 5 and 0 of 5 have 2/252.
    assert outcome.fisher(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert outcome.fisher(5, 5, 0, 5) == pytest.approx(2 / 252)
    assert outcome.fisher(5, 5, 5, 5) == 1


def test_the_p_of_an_effect_agrees_with_its_interval():
    effects = outcome.Effects([1.0, 2.0, 3.0])
    for level in (0.05, 0.2):
        assert effects.p(effects.interval(level).low) == pytest.approx(level)
    missed = outcome.of_steps([INF] * 10, [100] * 10, 1000)
    assert missed.interval(0.01).low == pytest.approx(10, rel=1e-5)
    assert missed.p(1.0) == pytest.approx(2 / math.comb(20, 10))


def test_the_seeds_that_would_decide_do():
    values = [-1.0, 2.0, 0.5, 3.0, -0.5]
    effects = outcome.Effects(values)
    n = effects.needed(lambda interval: interval.low > 0)
    # By hand: mean 0.8, s = 1.681; half of the interval is t s / sqrt(n), which is 0.8 between n = 19 and n = 20.
    assert n == 20
    assert outcome.Effects([1.0, -1.0]).needed(lambda interval: interval.low > 0) == 0


def test_pairs_that_move_together_are_told():
    assert outcome.correlation([(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)], ratio=True) == pytest.approx(1)
    assert math.isnan(outcome.correlation([(1.0, 2.0), (1.0, 4.0), (1.0, 6.0)], ratio=False))
