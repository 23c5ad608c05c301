"""Runs of a script, as the search asks for them: in other processes, side by side; and what their scores are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future

from levelhead.doctor.comparison import UPSTREAM, Result, gain
from levelhead.doctor.remedies import Remedy
from levelhead.doctor.rules.rule import GAIN
from levelhead.doctor.script.again import Runs
from levelhead.doctor.script.measure import Measure, Ran


class Reruns:
    """A script run again, as long as its unchanged run.

    Args:
        runs: makes the runs.
        first: the unchanged one.
        measure: what they are compared by.
    """

    whole = True
    scored = math.inf

    def __init__(self, runs: Runs, first: Ran, measure: Measure) -> None:
        self.runs, self.measure = runs, measure
        self.steps = first.steps + first.facts.ended  # one that ends by itself may judge after its last update
        self.base, self.floor = measure.of(first), measure.floor
        self._wishes: list[Future[Ran]] = []
        runs.begin([], 1, self.steps)  # how much another seed makes is asked first

    def affords(self, cost: float) -> bool:
        """Whether it would end before all are ended."""
        return self.runs.clock() + cost <= self.runs.deadline

    def run(self, applied: Sequence[Remedy], seed: int = 0) -> Result:
        """Run the script with these changes."""
        return self.measure.of(self.runs.begin(applied, seed, self.steps).result(), self.base.updates)

    def soon(self, wishes: Sequence[Sequence[Remedy]]) -> None:
        """Begin with these, side by side; what was wished before and has not begun is left."""
        for wish in self._wishes:
            wish.cancel()
        self._wishes = [self.runs.begin(wish, 0, self.steps) for wish in wishes]

    def gain(self, before: float, after: float) -> float:
        """The part of the way from a constant answer to ``after`` that ``before`` had not gone; 0 where it is idle."""
        return 0.0 if self.idle(after) else gain(before, after, self.floor)

    def room(self, score: float) -> float:
        """A score has no known bound; one of whose way the unchanged run has gone hardly any leaves nothing to gain."""
        left = 1 - self.gain(self.base.score, score)
        return left if left < UPSTREAM else 1.0

    @property
    def apart(self) -> float:
        """How far other seeds are from these, above a constant answer: how much worse than it says nothing."""
        apart = abs(max(self.base.score, self.floor) - max(self.run([], 1).score, self.floor))
        return apart if math.isfinite(apart) else 0.0

    def noise(self, score: float) -> float:
        """Twice the difference that other seeds make, beyond a constant answer."""
        return 2 * self.apart + max(0.0, self.floor - score) if math.isfinite(score) else 0.0

    def idle(self, score: float) -> bool:
        """Whether a score is no better than a constant answer's."""
        return not score > self.floor + GAIN * abs(self.floor)
