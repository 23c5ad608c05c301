"""The runs of a study by arm and seed, and the figures that claims and charts are made from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from levelhead.records import Curve, Run
from levelhead.studies.outcome import best_scores, steps_to


@dataclass(frozen=True)
class Samples:
    """Runs by arm and seed; what a run does not have is NaN.

    Args:
        runs: arms with their seeds, of which some may have more than others.
        arms: their names, in order.
        seeds: those that every arm has, ascending.
        seen: the arms that were looked at.
    """

    runs: dict[tuple[str, int], Run]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    seen: set[str] = field(default_factory=set, compare=False)

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Samples:
        """The runs of all arms."""
        by_key = {(run.arm, run.seed): run for run in runs}
        arms = tuple(dict.fromkeys(run.arm for run in runs))
        seeds = [seed for seed in dict.fromkeys(run.seed for run in runs) if all((arm, seed) in by_key for arm in arms)]
        return cls(by_key, arms, tuple(sorted(seeds)))

    def only(self, arms: Iterable[str], seeds: Sequence[int]) -> Samples:
        """The runs of some arms with some seeds."""
        kept = [arm for arm in self.arms if arm in set(arms)]
        return Samples.of([self.runs[arm, seed] for arm in kept for seed in seeds])

    def __getitem__(self, key: tuple[str, int]) -> Run:
        self.seen.add(key[0])
        return self.runs[key]

    def recipe(self, arms: Iterable[str]) -> dict[str, Any]:
        """The recipe of the first of the arms."""
        return self.runs[next(arm for arm in self.arms if arm in set(arms)), self.seeds[0]].recipe

    @property
    def metric(self) -> str:
        """What the scores are, from the first run."""
        return next(iter(self.runs.values())).metric

    @property
    def grain(self) -> float:
        """The deviation of a difference of two accuracies, in percentage points, that one validation row makes up."""
        data = next(iter(self.runs.values())).data
        rows = data.get("sizes", {}).get("validation")
        return 100 * float(data.get("grain", 1 / rows if rows else 0.0)) / math.sqrt(6)

    def curve(self, arm: str, seed: int, name: str) -> Curve:
        """A curve of a run; empty where it has none."""
        return self[arm, seed].curves.get(name, Curve((), ()))

    def best(self, arm: str, seed: int) -> float:
        """The best validation score; that of a diverged run too, from before it diverged."""
        return next(iter(best_scores([self[arm, seed]])), math.nan)

    def test(self, arm: str, seed: int) -> float:
        """The score on the test rows at the step of the best validation score: many looks at validation flatter it."""
        return self[arm, seed].test_score

    def last(self, arm: str, seed: int, name: str) -> float:
        """The last value of a curve; NaN of a run that did not finish."""
        values = self.curve(arm, seed, name).values
        return values[-1] if values and self[arm, seed].status == "finished" else math.nan

    def first(self, arm: str, seed: int, name: str) -> float:
        """The value of a curve before the first step."""
        return next(iter(self.curve(arm, seed, name).values), math.nan)

    def mean(self, arm: str, seed: int, name: str, start: int = 0) -> float:
        """The mean of a curve's values from a step on."""
        values = self._from(arm, seed, name, start)
        return statistics.fmean(values) if values else math.nan

    def geometric(self, arm: str, seed: int, name: str, start: int = 0) -> float:
        """The geometric mean of a curve's values from a step on; NaN where one is not above 0."""
        values = self._from(arm, seed, name, start)
        return statistics.geometric_mean(values) if values and min(values) > 0 else math.nan

    def _from(self, arm: str, seed: int, name: str, start: int) -> list[float]:
        curve = self.curve(arm, seed, name)
        return [value for step, value in zip(curve.steps, curve.values, strict=True) if step >= start]

    def steps(self, arm: str, seed: int, target: float) -> float:
        """Steps to a validation score, at least 1; infinite for a run that did not get there."""
        return max(1.0, steps_to(self[arm, seed], target))

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

    def by_layer(self, arm: str, measure: str, name: str, layers: int) -> dict[int, list[float]]:
        """The same of a curve's value in each of so many layers, ``name/1`` the first."""
        return {layer: self.every(arm, measure, f"{name}/{layer}") for layer in range(1, layers + 1)}
