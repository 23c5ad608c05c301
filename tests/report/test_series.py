"""Medians and bands over seeds, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from example_study import make_run

from levelhead.records import Curve, Run
from levelhead.report.series import by_arm, finite_part, over_seeds

INF, NAN = math.inf, math.nan


def run(seed: int, values: tuple[float, ...], status: str = "finished", every: int = 10) -> Run:
    steps = tuple(range(0, every * len(values), every))
    return Run("a", seed, status, steps[-1], 1.0, "accuracy", {}, {}, {"score": Curve(steps, values)})


def test_the_median_and_the_range_of_three_seeds() -> None:
    band = over_seeds([run(0, (1.0, 5.0)), run(1, (2.0, 4.0)), run(2, (9.0, 6.0))], "score", -INF)
    assert band is not None
    assert band.steps == (0, 10)
    assert band.middle == (2.0, 5.0)
    assert (band.low, band.high) == ((1.0, 4.0), (9.0, 6.0))
    assert band.ends == ()


@pytest.mark.parametrize(("worst", "middle"), [(-INF, (2.0, 2.0, 2.0)), (INF, (2.0, 4.0, 4.0))])
def test_a_diverged_run_counts_as_worst_and_the_others_keep_their_band(worst: float, middle: tuple[float, ...]) -> None:
    runs = [run(0, (1.0, 3.0, NAN), "diverged"), run(1, (2.0, 2.0, 2.0)), run(2, (4.0, 4.0, 4.0))]
    runs[0] = run(0, (1.0, NAN), "diverged")
    band = over_seeds(runs, "score", worst)
    assert band is not None
    assert band.middle == middle
    assert (band.low, band.high) == ((1.0, 2.0, 2.0), (4.0, 4.0, 4.0))
    assert [(end.seed, end.step, end.value) for end in band.ends] == [(0, 0, 1.0)]


def test_the_line_ends_where_half_of_the_runs_have_diverged() -> None:
    runs = [run(0, (1.0, 1.0, INF), "diverged"), run(1, (2.0, 2.0), "diverged"), run(2, (3.0, 3.0, 3.0, 3.0))]
    band = over_seeds(runs, "score", -INF)
    assert band is not None
    assert band.steps == (0, 10)
    assert (band.low, band.high) == ((1.0, 1.0), (3.0, 3.0))


def test_a_run_that_stopped_early_keeps_its_last_value() -> None:
    band = over_seeds([run(0, (1.0, 5.0)), run(1, (0.0, 0.0, 1.0))], "score", -INF)
    assert band is not None
    assert band.middle == (0.5, 2.5, 3.0)


def test_runs_that_were_evaluated_at_other_steps_hold_their_value_between() -> None:
    band = over_seeds([run(0, (0.0, 10.0), every=20), run(1, (0.0, 1.0, 2.0))], "score", -INF)
    assert band is not None
    assert band.steps == (0, 10, 20)
    assert band.middle == (0.0, 0.5, 6.0)


def test_failed_runs_and_missing_curves_take_no_part() -> None:
    assert over_seeds([run(0, (1.0,), "failed")], "score", -INF) is None
    assert over_seeds([run(0, (1.0,))], "loss", INF) is None
    assert over_seeds([run(0, (NAN, 1.0))], "score", -INF) is None


def test_the_finite_part_ends_at_the_first_value_that_is_not() -> None:
    assert finite_part(run(0, (1.0, INF, 2.0)), "score") == {0: 1.0}


def test_another_unit_changes_every_value() -> None:
    band = over_seeds([run(0, (1.0,), "diverged"), run(1, (2.0, 3.0)), run(2, (4.0, 5.0))], "score", -INF)
    assert band is not None
    scaled = band.times(100)
    assert scaled.middle == tuple(100 * y for y in band.middle)
    assert scaled.ends[0].value == 100.0
    assert scaled.steps == band.steps


def test_arms_keep_their_order_and_seeds_ascend() -> None:
    runs = [make_run("plain", 1), make_run("BN-x5", 0), make_run("plain", 0)]
    assert [(arm, [r.seed for r in its]) for arm, its in by_arm(runs).items()] == [("plain", [0, 1]), ("BN-x5", [0])]
