"""From runs to figures: steps to a target, speed-ups, and their intervals over seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from levelhead.records import Interval, Row, Run

if TYPE_CHECKING:
    from levelhead.data import Dataset

#: Up to here every resample is counted exactly (6,435 distinct ones for 8); beyond, so many are drawn, seeded.
_EXACT = 8
_DRAWS = 10_000
#: What lies outside of a 95 % interval on each side; the slack is rounding of sums of probabilities.
_TAIL = 0.025 - 1e-12
#: The target, as a share of the baseline's best score.
SHARE = 0.98
#: What order statistics may leave outside: 6.25 % for 5 seeds, since at 5 % no number below 6 has an interval.
_MISSED = 0.07

Array = NDArray[np.float64]


def median(sample: Sequence[float]) -> Interval:
    """The median with its 95 % percentile-bootstrap interval; NaN of an empty sample.

    With up to 5 values the interval is their whole range, and covers the true median with probability
    1 - 2·0.5^n (93.75 % for 5): no method that looks at the order alone can say more.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    if not sample:
        return Interval(math.nan, math.nan, math.nan)
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    indices, weights = _resamples(len(ordered))
    values, chances = _middle(ordered[indices]), weights / weights.sum()
    return Interval(_median(sample), _low(values, chances), -_low(-values, chances))


def mean(values: Sequence[float], *, ratio: bool = False, floor: float = 0.0) -> Interval:
    r"""The mean with its 95 % interval by Student's t; of ratios the geometric mean.

    .. math:: \bar x \pm t_{0.975, n - 1}\, \max(s, \mathrm{floor}) / \sqrt n

    Exact for normal effects, and for three seeds and more close to it where they are not far from symmetric; unlike
    the bootstrap it keeps its 95 % at three seeds, where t is 4.3.

    Args:
        values: the effects, one a seed.
        ratio: they are ratios.
        floor: the least standard deviation (of ratios: of their logarithms) that the measurement allows.

    Returns:
        NaN throughout where a value is not finite or there is none, NaN ends where there is but one.

    Source: Student 1908, "The probable error of a mean".
    """
    usable = all(math.isfinite(value) and (value > 0 or not ratio) for value in values)
    if not values or not usable:
        return Interval(math.nan, math.nan, math.nan)
    scaled = [math.log(value) for value in values] if ratio else list(values)
    middle = statistics.fmean(scaled)
    if len(scaled) == 1:
        return Interval(values[0], math.nan, math.nan)
    from scipy.special import stdtrit

    spread = max(statistics.stdev(scaled), floor)
    half = float(stdtrit(len(scaled) - 1, 0.975)) * spread / math.sqrt(len(scaled))
    ends = (middle, middle - half, middle + half)
    return Interval(*map(math.exp, ends)) if ratio else Interval(*ends)


def speedup(baseline: Sequence[float], arm: Sequence[float], budget: float, every: float = 0.0) -> Interval:
    r"""How many times fewer steps the arm needs than the baseline of the same seed, with its 95 % interval.

    Where every run reached the target: ``mean`` of the ratios, on logarithms, paired by seed. Steps are known to the
    grid of evaluations only, so that the spread is no less than that of two uniform errors of width ``every``.

    A run that missed is known to need more than ``budget``, and no more than that: its ratio is a range. Then the
    figure is the median ratio, and its interval the order statistics that cover it with at least 93 % (93.75 % for 5
    seeds, which is their range), each range taken at the end that widens it. Below 5 seeds there are none, and
    nothing is known: from 0 to infinity.

    Args:
        baseline: steps to the target, one a seed, infinite where it was not reached.
        arm: the same of the arm that is judged, seed by seed.
        budget: the steps that every run was given.
        every: steps from one evaluation to the next.

    Returns:
        The ratio; infinite where only the baseline missed the target (``low`` is then the bound that is known), 0
        where only the arm did (``high`` is the bound), NaN where both did.
    """
    pairs = [(max(above, 1), max(below, 1)) for above, below in zip(baseline, arm, strict=True)]
    if not pairs:
        return Interval(math.nan, 0.0, math.inf)
    if all(math.isfinite(above) and math.isfinite(below) for above, below in pairs):
        errors = [every**2 / 12 * (1 / above**2 + 1 / below**2) for above, below in pairs]
        found = mean([above / below for above, below in pairs], ratio=True, floor=math.sqrt(statistics.fmean(errors)))
        return found if len(pairs) > 1 else Interval(found.value, 0.0, math.inf)
    lows = sorted(min(above, budget) / below for above, below in pairs)
    highs = sorted(above / min(below, budget) for above, below in pairs)
    low, high = _median(lows), _median(highs)
    value = (math.inf if low > 0 else math.nan) if math.isinf(high) else low
    n = len(pairs)
    outside = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, n // 2 + 1)]
    cut = sum(share <= _MISSED for share in outside)
    return Interval(value, lows[cut - 1], highs[n - cut]) if cut else Interval(value, 0.0, math.inf)


def chance(data: Dataset) -> tuple[float, float]:
    """The validation score of always the most frequent class (or the mean), and the score that is more than luck.

    Of an accuracy p of n validation rows that is two standard errors more, sqrt(p (1 - p) / n) each, but always less
    than no mistake; an r2 above 0.
    """
    if data.task != "classification":
        return 0.0, 0.0
    values, counts = data.train.targets.unique(return_counts=True)
    share = float((data.validation.targets == values[counts.argmax()]).double().mean())
    n = len(data.validation.targets)
    return share, min(share + 2 * math.sqrt(share * (1 - share) / n), 1 - 0.5 / n)


def goal(baseline: Sequence[Run], least: float) -> float:
    """The target: 98 % of the baseline's median best score, but no less than what tells from chance.

    The best itself comes late and by luck, so that half of the baseline's own runs would miss it.
    """
    best = statistics.median_low(best_scores(baseline))
    return max(best - (1 - SHARE) * abs(best), least)


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
