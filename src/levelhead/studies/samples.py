"""The runs of a study by arm and seed, and the figures that claims and charts are made from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from levelhead.records import Curve, Interval, Run
from levelhead.studies.outcome import best_scores, speedup, steps_to


@dataclass(frozen=True)
class Samples:
    """Runs by arm and seed; what a run does not have is NaN.

    Args:
        runs: every arm with every seed.
        arms: their names, in order.
        seeds: ascending.
    """

    runs: dict[tuple[str, int], Run]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Samples:
        """The runs of all arms, each with the same seeds."""
        arms = tuple(dict.fromkeys(run.arm for run in runs))
        seeds = tuple(sorted({run.seed for run in runs}))
        return cls({(run.arm, run.seed): run for run in runs}, arms, seeds)

    def __getitem__(self, key: tuple[str, int]) -> Run:
        return self.runs[key]

    def curve(self, arm: str, seed: int, name: str) -> Curve:
        """A curve of a run; empty where it has none."""
        return self[arm, seed].curves.get(name, Curve((), ()))

    def best(self, arm: str, seed: int) -> float:
        """The best validation score; that of a diverged run too, from before it diverged."""
        return next(iter(best_scores([self[arm, seed]])), math.nan)

    def test(self, arm: str, seed: int) -> float:
        """The test score at the step of the best validation score."""
        return self[arm, seed].test_score

    def last(self, arm: str, seed: int, name: str) -> float:
        """The last value of a curve; NaN of a run that did not finish."""
        values = self.curve(arm, seed, name).values
        return values[-1] if values and self[arm, seed].status == "finished" else math.nan

    def first(self, arm: str, seed: int, name: str) -> float:
        """The value of a curve before the first step."""
        return next(iter(self.curve(arm, seed, name).values), math.nan)

    def mean(self, arm: str, seed: int, name: str, *, start: int = 0) -> float:
        """The mean of a curve's values from a step on."""
        curve = self.curve(arm, seed, name)
        values = [value for step, value in zip(curve.steps, curve.values, strict=True) if step >= start]
        return statistics.fmean(values) if values else math.nan

    def geometric(self, arm: str, seed: int, name: str, *, start: int = 0) -> float:
        """The geometric mean of a curve's values from a step on; NaN where one is not above 0."""
        curve = self.curve(arm, seed, name)
        values = [value for step, value in zip(curve.steps, curve.values, strict=True) if step >= start]
        return statistics.geometric_mean(values) if values and min(values) > 0 else math.nan

    def steps(self, arm: str, seed: int, target: float) -> float:
        """Steps to a validation score, at least 1; infinite for a run that did not get there."""
        return max(1.0, steps_to(self[arm, seed], target))

    def ratio(self, slow: str, fast: str, seed: int, target: float) -> float:
        """Steps of one arm over another's: infinite where only the slow one missed, 0 where the fast one, NaN both."""
        above, below = self.steps(slow, seed, target), self.steps(fast, seed, target)
        return math.nan if math.isinf(above) and math.isinf(below) else above / below

    def speedup(self, slow: str, fast: str, target: float) -> Interval:
        """The same over all seeds, with its interval: see ``outcome.speedup``."""
        above, below = ([self.steps(arm, seed, target) for seed in self.seeds] for arm in (slow, fast))
        recipe = self[slow, self.seeds[0]].recipe
        return speedup(above, below, recipe["steps"], recipe["evaluate_every"])

    def gap(self, arm: str, seed: int) -> float:
        """Training score less validation score at the end: what was learned and does not generalize."""
        return self.last(arm, seed, "train_score") - self.last(arm, seed, "validation_score")

    def every(self, arm: str, measure: str, *more: str) -> list[float]:
        """A figure of each seed, by the name of the method that gives it; what is not finite is left out.

        Empty for an arm that was not run, as a quick study leaves some out.
        """
        if arm not in self.arms:
            return []
        values = [float(getattr(self, measure)(arm, seed, *more)) for seed in self.seeds]
        return [value for value in values if math.isfinite(value)]
