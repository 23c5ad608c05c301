"""From runs to figures: steps to a target, speed-ups, and their intervals over seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelhead.records import Interval, Row, Run

#: Up to here every resample is counted exactly (6,435 distinct ones for 8); beyond, so many are drawn, seeded.
_EXACT = 8
_DRAWS = 10_000
#: What lies outside of a 95 % interval on each side; the slack is rounding of sums of probabilities.
_TAIL = 0.025 - 1e-12

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Medians:
    """The bootstrap distribution of a median: its values in ascending order and their probabilities."""

    values: Array
    probabilities: Array

    @classmethod
    def of(cls, sample: Sequence[float]) -> Medians:
        """All n^n resamples of the sample, each counted, where n is at most 8; else 10,000 seeded draws.

        The sample may hold infinity (the target was not reached); the mean of it and a number is infinity.
        """
        ordered = np.sort(np.asarray(sample, dtype=np.float64))
        indices, weights = _resamples(len(ordered))
        return cls._weighted(_middle(ordered[indices]), weights)

    @classmethod
    def _weighted(cls, medians: Array, weights: Array) -> Medians:
        values, where = np.unique(medians, return_inverse=True)
        return cls(values, np.bincount(where, weights) / weights.sum())


def median(sample: Sequence[float]) -> Interval:
    """The median with its 95 % percentile-bootstrap interval; NaN of an empty sample.

    With up to 5 values the interval is their whole range, and covers the true median with probability
    1 - 2·0.5^n (93.75 % for 5): no method that looks at the order alone can say more.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    if not sample:
        return Interval(math.nan, math.nan, math.nan)
    resampled = Medians.of(sample)
    return Interval(
        _median(sample),
        _low(resampled.values, resampled.probabilities),
        _high(resampled.values, resampled.probabilities),
    )


def speedup(baseline: Sequence[float], arm: Sequence[float], budget: float) -> Interval:
    r"""The baseline's median steps divided by the arm's, with its 95 % bootstrap interval (both resampled).

    A median that is infinite was not reached in ``budget`` steps, and only that is known of it: it lies somewhere
    from ``budget`` to infinity. Each end of the interval takes the end of that range that widens it.

    Args:
        baseline: steps to the target, one a seed, infinite where it was not reached.
        arm: the same of the arm that is judged.
        budget: the steps that every run was given.

    Returns:
        The ratio; infinite where only the baseline missed the target (``low`` is then the bound that is known), 0
        where only the arm did (``high`` is the bound), NaN where both did.
    """
    if not baseline or not arm:
        return Interval(math.nan, 0.0, math.inf)
    value = _ratio(_median(baseline), _median(arm))
    return _interval(value, [(1.0, Medians.of(baseline), Medians.of(arm))], budget)


def speedup_to_best(baseline: Sequence[Run], arm: Sequence[Run], budget: float) -> Interval:
    """The speed-up to the baseline's median best score, which is itself resampled with the baseline's runs.

    In each resample the target is the median best score of the runs in it (the lower of two middle ones), so that the
    interval tells how far the target is known too, and a resampled baseline always reaches it. The rest is as in
    ``speedup``; a baseline run without a score sets no target and reaches none.
    """
    bests = np.array([max(best_scores([run]), default=math.nan) for run in baseline])
    if not arm or bool(np.isnan(bests).all()):
        return Interval(math.nan, 0.0, math.inf)
    indices, weights = _resamples(len(baseline))
    drawn = np.sort(bests[indices], axis=1)  # NaN comes last
    known = np.count_nonzero(~np.isnan(drawn), axis=1)
    targets = np.where(known > 0, drawn[np.arange(len(drawn)), np.maximum(known - 1, 0) // 2], math.nan)
    weights = np.where(known > 0, weights, 0)
    parts = []
    for target in np.unique(targets[known > 0]).tolist():
        where = targets == target
        taken = np.array([steps_to(run, target) for run in baseline])
        above = Medians._weighted(_middle(np.sort(taken[indices[where]], axis=1)), weights[where])
        share = float(weights[where].sum() / weights.sum())
        parts.append((share, above, Medians.of([steps_to(run, target) for run in arm])))
    target = statistics.median_low(bests[~np.isnan(bests)].tolist())
    value = _ratio(*(_median([steps_to(run, target) for run in runs]) for runs in (baseline, arm)))
    return _interval(value, parts, budget)


def steps_to(run: Run, target: float) -> float:
    """How many updates the run took to the target; infinite where it never got there, a failed run included."""
    if "validation_score" not in run.curves:
        return math.inf
    step = run.score.first_step_at(target)
    return math.inf if step is None else float(step)


def best_scores(runs: Sequence[Run]) -> list[float]:
    """The best validation score of every run that has one: a failed run has none, a diverged one has."""
    scores = [run.score.best() for run in runs if "validation_score" in run.curves]
    return [score for score in scores if not math.isnan(score)]


def row(arm: str, settings: dict[str, Any], runs: Sequence[Run], target: float, gain: Interval) -> Row:
    """Sum up one arm over its seeds; no run is dropped from the steps."""
    taken = [steps_to(run, target) for run in runs]
    status = Counter(run.status for run in runs)
    return Row(
        arm=arm,
        settings=settings,
        runs=len(runs),
        diverged=status["diverged"],
        failed=status["failed"],
        reached=sum(math.isfinite(steps) for steps in taken),
        steps=median(taken),
        speedup=gain,
        best=median(best_scores(runs)),
        test=median([run.test_score for run in runs if not math.isnan(run.test_score)]),
    )


def _resamples(n: int) -> tuple[NDArray[np.intp], Array]:
    """Resamples of n things as ascending indices, and how often each occurs."""
    if n <= _EXACT:
        indices = np.array(list(combinations_with_replacement(range(n), n)), dtype=np.intp)
        return indices, np.array([_arrangements(row) for row in indices.tolist()], dtype=np.float64)
    drawn = np.random.default_rng(0).integers(n, size=(_DRAWS, n))
    return np.sort(drawn, axis=1).astype(np.intp), np.ones(_DRAWS)


def _middle(ascending: Array) -> Array:
    """The median of each row."""
    n = ascending.shape[1]
    return np.asarray((ascending[:, (n - 1) // 2] + ascending[:, n // 2]) / 2)


def _ratio(above: float, below: float) -> float:
    # A target that holds before the first step counts as one step, so that a ratio exists.
    return math.nan if math.isinf(above) and math.isinf(below) else max(above, 1) / max(below, 1)


def _interval(value: float, parts: Sequence[tuple[float, Medians, Medians]], budget: float) -> Interval:
    """The interval of a ratio over parts of given shares: baseline's medians above, the arm's below."""
    smallest, largest, probabilities = [], [], []
    for share, base, judged in parts:
        above, below = np.maximum(base.values, 1)[:, None], np.maximum(judged.values, 1)[None, :]
        smallest.append((np.minimum(above, budget) / below).ravel())
        largest.append((above / np.minimum(below, budget)).ravel())
        probabilities.append(share * np.outer(base.probabilities, judged.probabilities).ravel())
    chances = np.concatenate(probabilities)
    return Interval(value, _low(np.concatenate(smallest), chances), _high(np.concatenate(largest), chances))


def _arrangements(indices: list[int]) -> int:
    """In how many orders a resample can be drawn."""
    ways = math.factorial(len(indices))
    for times in Counter(indices).values():
        ways //= math.factorial(times)
    return ways


def _median(sample: Sequence[float]) -> float:
    ordered = sorted(sample)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _low(values: Array, probabilities: Array) -> float:
    """The smallest value that the 2.5 % below it do not reach."""
    order = np.argsort(values, kind="stable")
    return float(values[order][np.searchsorted(np.cumsum(probabilities[order]), _TAIL)])


def _high(values: Array, probabilities: Array) -> float:
    return -_low(-values, probabilities)
