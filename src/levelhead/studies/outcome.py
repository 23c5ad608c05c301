"""From runs to figures: steps to a target, effects of arms, and their intervals over seeds."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from levelhead.lessons import LEVEL, Row, Verdict
from levelhead.records import Interval, Run

if TYPE_CHECKING:
    from levelhead.data import Dataset

#: Seeds at which a study looks at its claims, and what the interval of each look may miss: together 5 %, as counted
#: on 200,000 studies by ``benchmarks/intervals.py``.
LOOKS = ((5, 0.01), (10, 0.01), (20, 0.015), (40, 0.022))
#: The target, as a share of the baseline's best score.
SHARE = 0.98
#: A range may miss a quarter more: 6.25 % of 5 seeds, since at 5 % no number below 6 has an interval.
_SLACK = 1.26
#: More seeds than this are not worth telling.
_MOST = 100_000
#: Up to so many seeds the log-rank test goes through all divisions of the runs among two arms.
_EXACT = 7
Array = NDArray[Any]


class Estimate:
    """What is known of an effect from the runs of several seeds: ``Effects`` or ``Censored``."""

    ratio: bool

    def interval(self, level: float = LEVEL) -> Interval:
        """The effect with the interval that misses it with probability ``level``; NaN ends where there is none."""
        raise NotImplementedError

    def p(self, threshold: float) -> float:
        """Two-sided, of an effect that equals the threshold; NaN where nothing is known."""
        raise NotImplementedError

    @property
    def _moments(self) -> tuple[float, float, int] | None:
        """Mean, deviation and number on the scale on which effects add; None where they are not known."""
        raise NotImplementedError

    def needed(self, decides: Callable[[Interval], bool]) -> int:
        """How many seeds would give an interval that decides, if further ones are like these; 0 if none or unknown."""
        if self._moments is None:
            return 0
        (middle, spread, low), high = self._moments, _MOST
        if low < 2 or not decides(_student(middle, spread, high, LEVEL, ratio=self.ratio)):
            return 0
        while high - low > 1:
            n = (low + high) // 2
            low, high = (low, n) if decides(_student(middle, spread, n, LEVEL, ratio=self.ratio)) else (n, high)
        return high


@dataclass(frozen=True)
class Effects(Estimate):
    r"""One effect a seed: their mean, of ratios the geometric one, with Student's t.

    .. math:: \bar x \pm t_{1 - \alpha / 2, n - 1}\, \max(s, \mathrm{floor}) / \sqrt n

    Args:
        values: the effects.
        ratio: they are ratios, and add as logarithms.
        floor: the least standard deviation (of ratios: of their logarithms) that the measurement allows.

    Source: Student 1908, "The probable error of a mean".
    """

    values: Sequence[float]
    ratio: bool = False
    floor: float = 0.0

    @property
    def _moments(self) -> tuple[float, float, int] | None:
        if not self.values or any(not math.isfinite(x) or (self.ratio and x <= 0) for x in self.values):
            return None
        scaled = [math.log(x) for x in self.values] if self.ratio else list(self.values)
        spread = statistics.stdev(scaled) if len(scaled) > 1 else math.nan
        return statistics.fmean(scaled), max(spread, self.floor), len(scaled)

    def interval(self, level: float = LEVEL) -> Interval:
        """As ``Estimate`` says."""
        moments = self._moments
        return _student(*moments, level, ratio=self.ratio) if moments else Interval(math.nan, math.nan, math.nan)

    def p(self, threshold: float) -> float:
        """As ``Estimate`` says."""
        if self._moments is None or len(self.values) < 2:
            return math.nan
        middle, spread, n = self._moments
        off = middle - (math.log(threshold) if self.ratio else threshold)
        return _tail(off * math.sqrt(n), spread, n - 1)


@dataclass(frozen=True)
class Censored(Estimate):
    r"""How many times fewer steps an arm needs where runs missed the target: the log-rank test, inverted.

    The interval holds the factors by which the fast arm's steps can be multiplied so that the test does not tell them
    from the slow arm's. Both are cut at the smaller of their two budgets then, so that under the true factor all
    divisions of the runs among the arms are equally probable: of up to 7 seeds the test goes through all of them,
    beyond it is Student's t on the log-rank scores. Arms are not paired by seed; where seeds move them together, the
    interval is wider than it need be. A step is known to the grid of evaluations: a factor that either end of it
    allows is in.

    Args:
        slow, fast: steps, those that are infinite were more than the budget.
        budget: the steps that every run was given.
        every: how far apart evaluations are.

    Source: Mantel 1966, "Evaluation of survival data"; Tsiatis 1990, "Estimating regression parameters using linear
    rank tests for censored data".
    """

    slow: Sequence[float]
    fast: Sequence[float]
    budget: float
    every: float = 0.0
    ratio = True

    def interval(self, level: float = LEVEL) -> Interval:
        """As ``Estimate`` says."""
        edges = self._edges()
        places = np.array([edges[0] / 2, *np.sqrt(edges[1:] * edges[:-1]), edges[-1] * 2])
        ends = [0.0, *edges.tolist(), math.inf]  # of the place i: i and i + 1
        cells = range(len(places))

        def test(i: int) -> tuple[float, float]:
            return _tested(self, float(places[i]))

        level_with = bisect_left(cells, True, key=lambda i: test(i)[0] <= 0)
        behind = bisect_left(cells, True, key=lambda i: test(i)[0] < 0)
        above, below = ends[level_with], ends[behind]
        value = math.nan if not above and math.isinf(below) else math.sqrt(above) * math.sqrt(below)
        middle = min((level_with + behind) // 2, len(places) - 1)
        low = bisect_left(cells, True, hi=middle, key=lambda i: test(i)[1] > level)
        high = bisect_left(cells, True, lo=middle + 1, key=lambda i: test(i)[1] <= level)
        return Interval(value, ends[low], ends[high])

    def _edges(self) -> Array:
        """The factors at which two runs change places, or one and a budget; between them the test is the same."""
        slow, fast = (np.array([*filter(math.isfinite, taken), self.budget]) for taken in (self.slow, self.fast))
        above, below = (np.unique(np.maximum([*taken, *(taken - self.every)], 1.0)) for taken in (slow, fast))
        found: Array = np.unique(above[:, None] / below)
        return found

    def p(self, threshold: float) -> float:
        """As ``Estimate`` says."""
        return _tested(self, threshold)[1]

    @property
    def _moments(self) -> tuple[float, float, int] | None:
        """Those of which Student's t would give the same interval."""
        found, n = self.interval(), len(self.slow)
        if n < 2 or not (found.low > 0 and math.isfinite(found.high) and found.value > 0):
            return None
        width = math.log(found.high / found.low) / 2
        return math.log(found.value), width * math.sqrt(n) / _quantile(n - 1, LEVEL), n


@lru_cache(maxsize=256)
def _tested(known: Censored, factor: float) -> tuple[float, float]:
    """By how much more runs the fast arm has at the target than chance gives it, its steps times a factor; the p.

    No more and a p of 1 where the two ends of the grid differ in who is ahead.
    """
    slow, fast = np.array(known.slow), np.array(known.fast)
    cut, every = min(1.0, factor) * known.budget, known.every
    one, p = logrank(slow, factor * (fast - every), cut)
    other, q = logrank(slow - every, factor * fast, cut)
    return (one, max(p, q)) if one * other > 0 else (0.0, 1.0)


def logrank(slow: Array, fast: Array, cut: float) -> tuple[float, float]:
    """Runs of the second sample at the target by ``cut`` less those expected, and the two-sided p of the log-rank test.

    Steps beyond the cut are not known. All divisions of the runs among two samples of this size are gone through up to
    7 each; beyond, it is Student's t of the runs' scores (events less cumulative hazard).
    """
    n, taken = len(slow), np.concatenate([slow, fast])
    known, steps = taken <= cut, np.minimum(taken, cut)
    events, count = np.unique(steps[known], return_counts=True)
    at_risk = 2 * n - np.searchsorted(np.sort(steps), events)
    hazard = np.array([0.0, *np.cumsum(count / at_risk)])
    scores = known - hazard[np.searchsorted(events, steps, side="right")]
    ahead = float(scores[n:].sum())
    if n <= _EXACT:
        sums = scores[_divisions(n)].sum(1)
        return ahead, float((np.abs(sums) >= abs(ahead) - 1e-9).mean())
    spread = math.sqrt((scores[:n].var(ddof=1) + scores[n:].var(ddof=1)) / n)
    p = _tail(float(scores[n:].mean() - scores[:n].mean()), spread, 2 * n - 2)
    return ahead, max(p, 2 / math.comb(2 * n, n))


@cache
def _divisions(n: int) -> Array:
    return np.array(list(combinations(range(2 * n), n)))


def _quantile(freedom: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - level / 2))


def _student(middle: float, spread: float, n: int, level: float, *, ratio: bool) -> Interval:
    half = _quantile(n - 1, level) * spread / math.sqrt(n) if n > 1 else math.nan
    ends = (middle, middle - half, middle + half)
    return Interval(*map(_exp, ends)) if ratio else Interval(*ends)


def _tail(off: float, spread: float, freedom: int) -> float:
    """Two-sided p of Student's t."""
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(off) / spread)) if spread else float(off == 0)


def of_steps(slow: Sequence[float], fast: Sequence[float], budget: float, every: float = 0.0) -> Estimate:
    """Steps of one arm over another's, seed by seed; those that are infinite were more than the budget.

    Steps are known to the grid of evaluations: the spread is no less than that of two uniform errors of ``every``.
    """
    pairs = [(max(above, 1.0), max(below, 1.0)) for above, below in zip(slow, fast, strict=True)]
    if not all(math.isfinite(x) for pair in pairs for x in pair):
        one, other = zip(*pairs, strict=True)
        return Censored(one, other, budget, every)
    errors = [every**2 / 12 * (1 / above**2 + 1 / below**2) for above, below in pairs]
    return Effects([above / below for above, below in pairs], True, math.sqrt(statistics.fmean(errors)))


def speedup(baseline: Sequence[float], arm: Sequence[float], budget: float, every: float = 0.0) -> Interval:
    """How many times fewer steps the arm needs than the baseline: see ``of_steps``.

    Infinite where no run of the baseline got to the target (``low`` is then the bound that is known), 0 where none of
    the arm's did (``high`` is the bound), NaN where none did; from 0 to infinity where nothing is known.
    """
    found = of_steps(baseline, arm, budget, every).interval()
    return Interval(found.value, 0.0, math.inf) if math.isnan(found.low) else found


def median(sample: Sequence[float]) -> Interval:
    """The median with its 95 % interval by order statistics; NaN of an empty sample.

    Of up to 5 values that is their whole range, which covers the true median with probability 1 - 2·0.5^n (93.75 % for
    5): no method that looks at the order alone can say more.
    """
    if not sample:
        return Interval(math.nan, math.nan, math.nan)
    ordered = sorted(sample)
    cut = max(1, _cut(len(ordered), LEVEL))
    return Interval(statistics.median(ordered), ordered[cut - 1], ordered[-cut])


def _cut(n: int, level: float) -> int:
    """Which order statistic, from either end, bounds the median and misses it with ``level``; 0 if none does."""
    missed = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, n // 2 + 1)]
    return sum(share <= level for share in missed) or int(n > 1 and missed[0] <= _SLACK * level)


def _exp(x: float) -> float:
    return math.inf if x > 700 else math.exp(x)


def correlation(pairs: Sequence[tuple[float, float]], *, ratio: bool) -> float:
    """Over seeds, between the two figures that are compared; of ratios, between their logarithms. NaN if unknown."""
    kept = [pair for pair in pairs if all(math.isfinite(x) and (x > 0 or not ratio) for x in pair)]
    if len(kept) < 3:
        return math.nan
    one, other = zip(*[tuple(map(math.log, pair)) if ratio else pair for pair in kept], strict=True)
    return statistics.correlation(one, other) if min(map(len, map(set, (one, other)))) > 1 else math.nan


def fisher(a: int, of_a: int, b: int, of_b: int) -> float:
    """Two-sided p of Fisher's exact test that two shares a of so many and b of so many are of one chance."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[a, of_a - a], [b, of_b - b]]).pvalue)


def chance(data: Dataset) -> tuple[float, float]:
    """The validation score of always the most frequent class (or the mean), and the score that is more than luck.

    Of an accuracy p of n validation rows that is two standard errors more, sqrt(p (1 - p) / n) each, but always less
    than no mistake; of a balanced accuracy, the same of the mean over classes; an r2 above 0.
    """
    if data.metric == "r2":
        return 0.0, 0.0
    truth = data.validation.targets
    counts = truth.bincount().double()
    counts = counts[counts > 0]
    share = 1 / len(counts)
    if data.metric == "accuracy":
        share = float((truth == data.train.targets.bincount().argmax()).double().mean())
        counts = counts.sum()[None]
    error = math.sqrt(share * (1 - share) * float(counts.reciprocal().sum())) / len(counts)
    return share, min(share + 2 * error, 1 - 0.5 / (len(counts) * float(counts.max())))


def goal(best: Sequence[float], least: float, share: float = SHARE) -> float:
    """The target: 98 % of the median of the best scores, but no less than what tells from chance.

    The best itself comes late and by luck, so that half of the baseline's own runs would miss it.
    """
    middle = statistics.median_low(best)
    return max(middle - (1 - share) * abs(middle), least)


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


def row(
    arm: str, settings: dict[str, Any], runs: Sequence[Run], baseline: Sequence[Run], target: float,
    verdict: Verdict | None,
) -> Row:  # fmt: skip
    """Sum up one arm over its seeds; no run is dropped from the steps."""
    taken, theirs = ([steps_to(run, target) for run in some] for some in (runs, baseline))
    status = Counter(run.status for run in runs)
    reached = sum(map(math.isfinite, taken))
    return Row(
        arm=arm,
        settings=settings,
        runs=len(runs),
        diverged=status["diverged"],
        failed=status["failed"],
        reached=reached,
        differs=fisher(reached, len(taken), sum(map(math.isfinite, theirs)), len(theirs)) if verdict else math.nan,
        steps=median(taken),
        best=median(best_scores(runs)),
        test=median([run.test_score for run in runs if not math.isnan(run.test_score)]),
        verdict=verdict,
    )
