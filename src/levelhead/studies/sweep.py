"""A small sweep: the learning rate and the initialization at which a recipe does best, as run files and lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from levelhead.records import Line, Run
from levelhead.studies.jobs import Job
from levelhead.studies.outcome import best_scores, steps_to
from levelhead.training import Recipe

#: Not a seed of any study, so that the choice is not made from the runs that it is judged by.
SEED = 1000


@dataclass(frozen=True)
class Sweep:
    """One recipe at every learning rate and initialization.

    Args:
        name: of the arm that is tuned; a part of the runs' file names.
        recipe: all that is not swept.
        learning_rates: to try, in any order.
        initializations: to try.
    """

    name: str
    recipe: Recipe
    learning_rates: Sequence[float]
    initializations: Sequence[str]

    def jobs(self, folder: Path) -> list[Job]:
        """The runs, one a setting."""
        return [
            Job.of(
                f"sweep-{self.name}-{initialization}-lr{rate:g}",
                self.recipe.replace(
                    learning_rate=rate,
                    initialization=initialization,
                    evaluate_every=2 * self.recipe.evaluate_every,  # enough to choose by, and it takes its time
                    seed=SEED,
                ),
                folder,
                group=f"sweep {self.name}",
                probe=False,
            )
            for initialization in self.initializations
            for rate in sorted(self.learning_rates)
        ]

    def best(self, runs: Sequence[Run]) -> Recipe:
        """The recipe of the run with the best validation score; of equal ones, the first to reach it.

        One that diverged is taken only where all did, however well it did before.
        """

        winner = min(runs, key=rank).recipe
        return self.recipe.replace(
            learning_rate=winner["learning_rate"], initialization=winner["initialization"], seed=self.recipe.seed
        )

    def lines(self, runs: Sequence[Run], label: str) -> list[Line]:
        """Best score against learning rate, a line an initialization; a run without a score is left open (NaN)."""
        lines = []
        for initialization in self.initializations:
            of = [run for run in runs if run.recipe["initialization"] == initialization]
            rates = tuple(run.recipe["learning_rate"] for run in of)
            scores = tuple((best_scores([run]) or [math.nan])[0] for run in of)
            lines.append(Line(f"{label}, {initialization} initialization", rates, scores))
        return lines

    def at_edge(self, recipe: Recipe) -> bool:
        """Whether the best learning rate is the smallest or the largest that was tried: a wider sweep may find more."""
        rates = self.learning_rates
        return len(rates) > 1 and recipe.learning_rate in (min(rates), max(rates))


def rank(run: Run) -> tuple[bool, float, float]:
    """What a sweep orders its runs by, the best first."""
    scores = best_scores([run])
    diverged = run.status != "finished"
    return (diverged, -scores[0], steps_to(run, scores[0])) if scores else (True, math.inf, math.inf)
