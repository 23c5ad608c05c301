"""Verdicts: known cases, and the promised coverage of the interval that they come from."""

import math

import numpy as np
import pytest

from levelhead.lessons import figure
from levelhead.lessons import rule as rule_in_words
from levelhead.records import Curve, Interval, Run
from levelhead.studies.claims import Claim, faster, rule
from levelhead.studies.outcome import Effects
from levelhead.studies.samples import Samples

INF, NAN = math.inf, math.nan


def make_run(arm, seed, best, **changes):
    curves = {
        "validation_score": Curve((0, 10, 20), (0.1, best, best - 0.05)),
        "train_score": Curve((0, 20), (0.1, 1.0)),
    }
    fields = {
        "steps": 20,
        "recipe": {"steps": 20, "evaluate_every": 10},
        "status": "finished",
        "curves": curves,
        "test_score": 0.5,
    } | changes
    return Run(arm, seed, seconds=0.1, metric="accuracy", data={}, **fields)


def claim(**changes):
    fields = {"text": "It helps.", "source": "here", "effect": "best", "unit": "points"} | changes
    return Claim(**({"measure": lambda samples, seed: samples.best("on", seed) - samples.best("off", seed)} | fields))


def samples(on, off):
    runs = [make_run(arm, seed, best) for arm, bests in (("on", on), ("off", off)) for seed, best in enumerate(bests)]
    return Samples.of(runs)


@pytest.mark.parametrize(
    ("low", "high", "side", "threshold", "ruling"),
    [
        (0.1, 0.2, "above", 0, "supported"),
        (-0.1, 0.2, "above", 0, "not decided"),
        (-0.2, -0.1, "above", 0, "contradicted"),
        (0.0, 0.0, "above", 0, "no difference"),
        (-0.2, -0.1, "below", 0, "supported"),
        (0.1, 0.2, "below", 0, "contradicted"),
        (0.0, 0.2, "below", 0, "not decided"),
        (-0.04, 0.04, "above", 0, "no difference"),
        (-0.04, 0.06, "below", 0, "not decided"),
        (0.01, 0.04, "above", 0, "supported"),
        (0.4, 0.6, "below", 0.5, "not decided"),
        (-0.4, 0.4, "within", 0.5, "supported"),
        (0.4, 0.6, "within", 0.5, "not decided"),
        (0.6, 0.9, "within", 0.5, "contradicted"),
        (-0.9, -0.6, "within", 0.5, "contradicted"),
        (-0.9, 0.9, "within", 0.5, "not decided"),
        (2.0, INF, "above", 1, "supported"),
        (NAN, NAN, "above", 0, "not decided"),
    ],
)
def test_the_rule(low, high, side, threshold, ruling):
    assert rule(Interval((low + high) / 2, low, high), side, threshold, (-0.05, 0.05)) == ruling


def test_the_interval_of_three_is_students():
    # Of 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.302653 from any table.
    got = Effects([1.0, 2.0, 3.0]).interval()
    assert (got.value, got.high - got.value) == pytest.approx((2, 4.302653 / math.sqrt(3)), rel=1e-6)
    assert got.high - got.value == pytest.approx(got.value - got.low)


@pytest.mark.parametrize("n", [3, 5])
def test_the_interval_covers_as_often_as_it_says(n):
    # 2,000 trials: standard error 0.005 at 0.95; 4 of them.
    trials = np.random.default_rng(n).normal(1, 2, size=(2000, n))
    covered = np.mean([got.low <= 1 <= got.high for got in (Effects(list(trial)).interval() for trial in trials)])
    assert abs(covered - 0.95) < 4 * 0.005


def test_a_ratio_has_a_geometric_mean_and_reads_the_same_both_ways():
    got, inverse = (Effects(of, ratio=True).interval() for of in ([2.0, 8.0], [0.5, 0.125]))
    assert got.value == pytest.approx(4)
    assert (got.low, got.high) == pytest.approx((1 / inverse.high, 1 / inverse.low))


@pytest.mark.parametrize("values", [[], [1.0, NAN], [1.0, INF]])
def test_what_has_no_mean_has_no_interval(values):
    assert math.isnan(Effects(values).interval().low)


def test_a_claim_is_judged_by_pairs_of_the_same_seed():
    # The seeds differ by far more than the arms do; only the pairs show the gain.
    verdict = claim().judge(samples(on=[0.51, 0.71, 0.915], off=[0.5, 0.7, 0.9]))
    assert verdict.ruling == "supported"
    assert verdict.effects == pytest.approx((0.01, 0.01, 0.015))
    assert claim(threshold=0.05).judge(samples([0.51, 0.71, 0.915], [0.5, 0.7, 0.9])).ruling == "contradicted"
    assert claim().judge(samples(on=[0.5, 0.8], off=[0.6, 0.6])).ruling == "not decided"


def test_a_seed_without_an_effect_decides_nothing_and_is_named():
    runs = [make_run(arm, seed, 0.9 if arm == "on" else 0.1) for arm in ("on", "off") for seed in range(3)]
    runs[1] = make_run("on", 1, 0.9, status="failed", curves={}, test_score=NAN)
    verdict = claim().judge(Samples.of(runs))
    assert verdict.ruling == "not decided"
    assert verdict.remark == "Seed 1 has no such effect."
    assert figure(verdict) == "no figure"


def test_one_seed_decides_nothing():
    verdict = claim().judge(samples(on=[0.9], off=[0.1]))
    assert (verdict.ruling, verdict.remark) == ("not decided", "One seed has no interval.")
    assert figure(verdict) == "0.8 points"
    assert math.isnan(verdict.p)


def test_verdicts_in_words():
    verdict = claim(side="within", threshold=0.5).judge(samples(on=[0.51, 0.71], off=[0.5, 0.7]))
    assert (figure(verdict), rule_in_words(verdict)) == ("0.01 points [0.01, 0.01]", "supported within ±0.5")


@pytest.mark.parametrize("side", ["above", "below"])
def test_no_effect_in_any_seed_is_no_difference(side):
    verdict = claim(side=side).judge(samples(on=[0.5] * 5, off=[0.5] * 5))
    assert (verdict.effects, verdict.ruling) == ((0,) * 5, "no difference")


def test_a_miss_is_a_bound_and_never_the_budget():
    speed = faster("off", "on", 0.6, text="It is faster.", effect="steps")
    verdict = speed.judge(samples(on=[0.9] * 5, off=[0.5] * 5))
    # on after 10 steps, off not in 20
    assert (verdict.interval.value, verdict.interval.low) == (INF, pytest.approx(2, rel=1e-5))
    assert (verdict.ruling, figure(verdict)) == ("supported", "at least 2 times")
    assert verdict.remark == "The target was missed with seed 0, 1, 2, 3, 4: the log-rank test judges."
    nobody = speed.judge(samples(on=[0.5] * 5, off=[0.5] * 5))
    assert (nobody.ruling, figure(nobody)) == ("not decided", "no figure")


def test_figures_of_a_run():
    runs = [make_run("on", 0, 0.9), make_run("on", 1, 0.8, status="diverged"), make_run("on", 2, 0.2, curves={})]
    got = Samples.of(runs)
    assert [got.steps("on", seed, 0.85) for seed in got.seeds] == [10, INF, INF], "a miss is no number of steps"
    assert got.gap("on", 0) == pytest.approx(1.0 - 0.85)
    assert math.isnan(got.last("on", 1, "validation_score")), "a diverged run has no last score"
    assert got.best("on", 1) == 0.8
    assert math.isnan(got.best("on", 2))
    assert got.every("on", "best") == [0.9, 0.8]
    assert got.every("absent", "best") == []
