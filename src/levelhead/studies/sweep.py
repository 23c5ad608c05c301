"""A sweep: the learning rate and initialization at which a recipe needs the fewest steps, over seeds of its own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from levelhead.records import Line, Run
from levelhead.studies.experiment import PLAIN, Experiment
from levelhead.studies.jobs import Job
from levelhead.studies.outcome import best_scores, goal, steps_to

if TYPE_CHECKING:
    from levelhead.studies.pool import Pool
    from levelhead.training import Recipe

#: Not seeds of any study, so that the choice is not made from the runs that it is judged by.
SEEDS = (1000, 1001, 1002, 1003, 1004)
#: With so many of them every setting is tried; the better half of the settings goes on to all.
FIRST = 2
#: How often a grid is widened where the best of it is at an edge.
WIDENED = 2

#: A learning rate and an initialization.
Setting = tuple[float, str]


@dataclass(frozen=True)
class Sweep:
    """One recipe at every learning rate and initialization of a grid.

    Args:
        name: of the arm that is tuned; a part of the runs' file names.
        recipe: all that is not swept.
        learning_rates: to try, in any order.
        initializations: to try.
        target: the score that steps are counted to, at which a run ends; None takes 98 % of the best median of the
            settings that go on to all seeds.
        like: the name of another sweep whose target counts.
        experiment: as in ``Job``.
    """

    name: str
    recipe: Recipe
    learning_rates: Sequence[float]
    initializations: Sequence[str]
    target: float | None = None
    like: str = ""
    experiment: Experiment = PLAIN

    def job(self, setting: Setting, seed: int, folder: Path) -> Job:
        """One run."""
        rate, initialization = setting
        recipe = self.recipe.replace(learning_rate=rate, initialization=initialization, seed=seed)
        return Job.of(
            f"sweep-{self.name}-{initialization}-lr{rate:g}",
            until(recipe, self.target),
            folder,
            group=f"sweep {self.name}",
            probe=False,
            experiment=self.experiment,
        )


@dataclass(frozen=True)
class Tuned:
    """What a sweep came to.

    Args:
        sweep: the grid as it was begun.
        best: the setting with the fewest steps to ``target``, of those that lost no seed.
        runs: of each setting.
        at_edge: the best learning rate is the smallest or the largest that was tried, after widening too.
    """

    sweep: Sweep
    best: Setting
    target: float
    runs: Mapping[Setting, Sequence[Run]]
    at_edge: bool

    @property
    def recipe(self) -> Recipe:
        """The recipe with the best setting, and its own seed."""
        return self.sweep.recipe.replace(learning_rate=self.best[0], initialization=self.best[1])

    def lines(self, label: str, scale: float) -> list[Line]:
        """Median best score, scaled, by learning rate with its range over seeds, a line an initialization."""
        lines = []
        for initialization in self.sweep.initializations:
            kept = {
                rate: [scale * score for score in best_scores(self.runs[rate, name])]
                for rate, name in sorted(self.runs)
                if name == initialization
            }
            # A run without a score leaves its place open (NaN).
            ends = [(statistics.median(s), min(s), max(s)) if s else (math.nan,) * 3 for s in kept.values()]
            lines.append(
                Line(f"{label}, {initialization} initialization", tuple(kept), *map(tuple, zip(*ends, strict=True)))
            )
        return lines


def tune(
    sweeps: Sequence[Sweep], pool: Pool, folder: Path, title: str = "sweep", least: float = -math.inf
) -> dict[str, Tuned]:
    """Tune recipes together, by their names: the same rules for all.

    Every setting is run with two seeds, the better half of each grid with all five. Where the best learning rate is at
    an edge, the grid is widened beyond it. Of settings that lost no seed (none diverged, and all reached the target)
    the one with the fewest steps to the target is taken, in the geometric mean; of equal ones the higher score decides.
    What a run does after it reached a target that is known does not count, and is not run.

    Args:
        sweeps: what is tuned.
        pool: makes the runs.
        folder: keeps them.
        title: of the stage, for a watcher.
        least: no target is below.

    Raises:
        StudyError: as ``Pool.run``.
    """
    first = _tune([sweep for sweep in sweeps if not sweep.like], pool, folder, title, least)
    others = [replace(sweep, target=first[sweep.like].target) for sweep in sweeps if sweep.like]
    tuned = first | (_tune(others, pool, folder, title, least) if others else {})
    return {sweep.name: tuned[sweep.name] for sweep in sweeps}


def _tune(sweeps: Sequence[Sweep], pool: Pool, folder: Path, title: str, least: float) -> dict[str, Tuned]:
    """The same of sweeps that hang on no other."""
    runs: dict[str, dict[Setting, list[Run]]] = {sweep.name: {} for sweep in sweeps}

    def make(wanted: list[tuple[Sweep, Setting]], seeds: Sequence[int]) -> None:
        asked = [(sweep, setting, seed) for sweep, setting in wanted for seed in seeds]
        made = pool.run(title, [sweep.job(setting, seed, folder) for sweep, setting, seed in asked]) if asked else []
        for (sweep, setting, _), run in zip(asked, made, strict=True):
            runs[sweep.name].setdefault(setting, []).append(run)

    def ranked(sweep: Sweep) -> tuple[float, list[Setting]]:
        """The target, and the settings with the most seeds in their order."""
        kept = runs[sweep.name]
        target = sweep.target if sweep.target is not None else _goal(kept, least)
        most = max(map(len, kept.values()))
        whole = [setting for setting in kept if len(kept[setting]) == most]
        return target, sorted(whole, key=lambda setting: _rank(kept[setting], target, sweep.recipe.steps))

    grids = {
        s.name: [(rate, start) for rate in sorted(s.learning_rates) for start in s.initializations] for s in sweeps
    }
    make([(sweep, setting) for sweep in sweeps for setting in grids[sweep.name]], SEEDS[:FIRST])
    better = {sweep.name: ranked(sweep)[1] for sweep in sweeps}
    make([(s, setting) for s in sweeps for setting in better[s.name][: (len(better[s.name]) + 1) // 2]], SEEDS[FIRST:])
    for _ in range(WIDENED):
        beyond = [(s, wide) for s in sweeps if (wide := _beyond(runs[s.name], ranked(s)[1][0])) is not None]
        make(beyond, SEEDS)
    tuned = {}
    for sweep in sweeps:
        target, (best, *_) = ranked(sweep)
        edge = _beyond(runs[sweep.name], best) is not None
        tuned[sweep.name] = Tuned(sweep, best, target, runs[sweep.name], edge)
    return tuned


def until(recipe: Recipe, target: float | None) -> Recipe:
    """The recipe of a run of which only the steps to a target count: it ends there."""
    return recipe if target is None or math.isinf(target) else recipe.replace(target=target)


def told(tuned: Mapping[str, Tuned]) -> list[str]:
    """What a reader must know of sweeps, a sentence each."""
    chosen = ", ".join(f"{name} {t.best[0]:g} ({t.best[1]})" for name, t in tuned.items())
    notes = [
        f"Learning rate and initialization are those with the fewest steps to the target in a sweep with {len(SEEDS)} "
        f"seeds of its own, among those that lost no seed: {chosen}."
    ]
    edges = [name for name, t in tuned.items() if t.at_edge]
    if edges:
        notes.append(f"At the edge of the sweep, so that more may be found beyond it: {', '.join(edges)}.")
    return notes


def _goal(runs: Mapping[Setting, Sequence[Run]], least: float) -> float:
    """98 % of the best that any setting has in the median over its seeds, those that lost one apart."""
    most = max(map(len, runs.values()))
    whole = [some for some in runs.values() if len(some) == most and all(run.status == "finished" for run in some)]
    scores = [best_scores(some) for some in whole or runs.values()]
    return max((goal(some, least) for some in scores if some), default=math.inf)


def _rank(runs: Sequence[Run], target: float, budget: int) -> tuple[int, float, float]:
    """What a sweep orders its settings by, the best first."""
    taken = [steps_to(run, target) for run in runs]
    lost = sum(run.status != "finished" or math.isinf(steps) for run, steps in zip(runs, taken, strict=True))
    slow = statistics.fmean(math.log(max(1.0, min(steps, 2.0 * budget))) for steps in taken)
    return lost, slow, -statistics.median(best_scores(runs) or [-math.inf])


def _beyond(runs: Mapping[Setting, Sequence[Run]], best: Setting) -> Setting | None:
    """The next setting beyond an edge of the grid; None where the best one is not at an edge."""
    rates = sorted({rate for rate, start in runs if start == best[1]})
    if len(rates) < 2 or best[0] not in (rates[0], rates[-1]):
        return None
    if best[0] == rates[0]:
        rates.reverse()
    # With its own pattern, so that 0.1, 0.3, 1 goes on to 3.
    wide = rates[-2] * rates[-1] / rates[-3] if len(rates) > 2 else rates[-1] ** 2 / rates[-2]
    return float(f"{wide:.2g}"), best[1]
