"""Runs of a program, as the search asks for them: copies that are trained in this process, one after another."""

from __future__ import annotations

from collections.abc import Sequence

from levelhead.doctor.program import Program
from levelhead.doctor.remedies import Remedy, several
from levelhead.doctor.trials import Outcome, now, train


class Copies:
    """Trains copies of one program for a search, within its time.

    Args:
        program: the program.
        budget: seconds, at the pace of each training's first updates.
        deadline: the time (``now()``) after which everything stops, whatever the pace.
    """

    def __init__(self, program: Program, budget: float, deadline: float) -> None:
        self.program, self.left, self.deadline = program, budget, deadline
        # The measure of all the others is given a sixth of the budget, or somewhat more.
        seconds = max(2.0, budget / 6)
        self.base = train(program, checks=True, seconds=seconds, stretch=2.0, deadline=deadline)
        self.left -= self.base.cost

    @property
    def whole(self) -> bool:
        """Whether the whole training is seen."""
        return self.base.updates >= self.base.planned or self.base.diverged

    def affords(self, cost: float) -> bool:
        """Whether there is time for so many seconds more."""
        return cost <= self.left and now() < self.deadline

    def run(self, applied: Sequence[Remedy], seed: int = 0) -> Outcome:
        """Train a copy with these remedies."""
        outcome = train(
            self.program,
            several(applied),
            updates=None if self.whole else self.base.updates,
            seed=seed,
            seconds=min(max(0.0, self.left) + 2 * self.base.cost, 6 * max(2.0, self.base.cost)),
            deadline=self.deadline,
        )
        self.left -= outcome.cost
        return outcome

    def soon(self, wishes: Sequence[Sequence[Remedy]]) -> None:
        """Copies are trained one after another."""
