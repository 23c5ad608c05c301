"""From runs to figures: steps to a target, effects of arms, and their intervals over seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Effects:
    r"""One effect a seed, and what is known of the effect that they are samples of.

    Where every effect is known: the mean, of ratios the geometric one, with Student's t,

    .. math:: \bar x \pm t_{1 - \alpha / 2, n - 1}\, \max(s, \mathrm{floor}) / \sqrt n

    Where a run missed its target, its effect is a range from ``low`` to ``high``. Then it is the median, and its
    interval order statistics, each range taken at the end that widens it: the inverse of a sign test.

    Args:
        low: the effects; ``high`` is the same where nothing was missed.
        ratio: they are ratios, and add as logarithms.
        floor: the least standard deviation (of ratios: of their logarithms) that the measurement allows.

    Source: Student 1908, "The probable error of a mean".
    """

    low: Sequence[float]
    high: Sequence[float]
    ratio: bool = False
    floor: float = 0.0

    @classmethod
    def of_steps(cls, slow: Sequence[float], fast: Sequence[float], budget: float, every: float = 0.0) -> Effects:
        """Steps of one arm over another's, seed by seed; those that are infinite were more than the budget.

        Steps are known to the grid of evaluations: the spread is no less than that of two uniform errors of ``every``.
        """
        pairs = [(max(above, 1), max(below, 1)) for above, below in zip(slow, fast, strict=True)]
        known = [pair for pair in pairs if all(map(math.isfinite, pair))]
        errors = [every**2 / 12 * (1 / above**2 + 1 / below**2) for above, below in known]
        low = [min(above, budget) / below for above, below in pairs]
        high = [above / min(below, budget) for above, below in pairs]
        return cls(low, high, True, math.sqrt(statistics.fmean(errors)) if errors else 0.0)

    @property
    def _moments(self) -> tuple[float, float] | None:
        """Mean and deviation on the scale on which effects add; None where one is a range or not a number."""
        if any(
            not math.isfinite(x) or x != y or (self.ratio and x <= 0) for x, y in zip(self.low, self.high, strict=True)
        ):
            return None
        scaled = [math.log(x) for x in self.low] if self.ratio else list(self.low)
        spread = statistics.stdev(scaled) if len(scaled) > 1 else math.nan
        return (statistics.fmean(scaled), max(spread, self.floor)) if scaled else None

    def interval(self, level: float = LEVEL) -> Interval:
        """The effect with the interval that misses it with probability ``level``; NaN ends where there is none."""
        if any(map(math.isnan, (*self.low, *self.high))) or not self.low:
            return Interval(math.nan, math.nan, math.nan)
        if moments := self._moments:
            return self._student(*moments, len(self.low), level)
        if not self.ratio:
            return Interval(math.nan, math.nan, math.nan)
        lows, highs = sorted(self.low), sorted(self.high)
        low, high = statistics.median(lows), statistics.median(highs)
        value = (math.inf if low > 0 else math.nan) if math.isinf(high) else low
        cut = _cut(len(lows), level)
        return Interval(value, lows[cut - 1], highs[-cut]) if cut else Interval(value, 0.0, math.inf)

    def _student(self, middle: float, spread: float, n: int, level: float) -> Interval:
        from scipy.special import stdtrit

        half = float(stdtrit(n - 1, 1 - level / 2)) * spread / math.sqrt(n) if n > 1 else math.nan
        ends = (middle, middle - half, middle + half)
        return Interval(*map(_exp, ends)) if self.ratio else Interval(*ends)

    def p(self, threshold: float) -> float:
        """Two-sided, of an effect that equals the threshold; NaN where nothing is known."""
        n = len(self.low)
        if any(map(math.isnan, (*self.low, *self.high))) or n < 2:
            return math.nan
        if moments := self._moments:
            from scipy.special import stdtr

            middle, spread = moments
            off = middle - (math.log(threshold) if self.ratio else threshold)
            if spread == 0:
                return float(off == 0)
            return 2 * float(stdtr(n - 1, -abs(off) * math.sqrt(n) / spread))
        beyond = max(sum(x > threshold for x in self.low), sum(x < threshold for x in self.high))
        return min(1.0, 2 * sum(math.comb(n, i) for i in range(n - beyond + 1)) / 2**n) if self.ratio else math.nan

    def needed(self, decides: Callable[[Interval], bool]) -> int:
        """How many seeds would give an interval that decides, if further ones are like these; 0 if none or unknown."""
        moments, low, high = self._moments, len(self.low), _MOST
        if moments is None or low < 2 or not decides(self._student(*moments, high, LEVEL)):
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if decides(self._student(*moments, middle, LEVEL)) else (middle, high)
        return high


def mean(values: Sequence[float], *, ratio: bool = False, floor: float = 0.0) -> Interval:
    """The mean of effects with its 95 % interval: see ``Effects``."""
    return Effects(values, values, ratio, floor).interval()


def speedup(baseline: Sequence[float], arm: Sequence[float], budget: float, every: float = 0.0) -> Interval:
    """How many times fewer steps the arm needs than the baseline of the same seed: see ``Effects.of_steps``.

    Infinite where only the baseline missed the target (``low`` is then the bound that is known), 0 where only the arm
    did (``high`` is the bound), NaN where both did; from 0 to infinity where nothing is known.
    """
    found = Effects.of_steps(baseline, arm, budget, every).interval()
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
    chances = [
        math.comb(of_a, i) * math.comb(of_b, a + b - i) / math.comb(of_a + of_b, a + b)
        for i in range(max(0, a + b - of_b), min(of_a, a + b) + 1)
    ]
    seen = chances[a - max(0, a + b - of_b)]
    return min(1.0, sum(chance for chance in chances if chance <= seen * (1 + 1e-9)))


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
