"""The frame of a study of claims: arms, seeds, measures, verdicts; a study file says only what is its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from levelhead.lessons import Contours, Lesson
from levelhead.records import Chart, Run, environment
from levelhead.studies.arms import shared
from levelhead.studies.claims import Claim
from levelhead.studies.experiment import Experiment, View
from levelhead.studies.jobs import ArmFailedError, Job
from levelhead.studies.samples import Samples
from levelhead.studies.settings import SettingsError
from levelhead.studies.sweep import SEED, rank

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.studies.pool import Pool
    from levelhead.studies.settings import Settings
    from levelhead.training import Recipe
    from levelhead.training.probes import Observer

#: One alone may be lucky with a rate at which others diverge.
SWEEP_SEEDS = (SEED, SEED + 1, SEED + 2)
#: How often a run is evaluated where a study does not say, and how often a quick one's.
EVALUATIONS, QUICK_EVALUATIONS = 20, 10


@dataclass(frozen=True)
class Arm:
    """What one arm changes.

    Args:
        fields: of the recipe.
        view: of the data; None takes the study's.
        observe: see ``Experiment``; None takes the study's.
        rates: learning rates of which a sweep with seeds of its own chooses the best; empty takes the recipe's.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    view: View | None = None
    observe: Observer | None = None
    rates: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lecture:
    """A study of claims.

    Args:
        name: its name.
        QUESTION: in a sentence.
        setting: what is trained on what, and why so, in a few sentences; the recipe's numbers stand beside it.
        arms: by name.
        claims: what is judged.
        draw: the charts.
        recipe: fields that all arms share.
        quick: fields that ``--quick`` changes.
        quick_arms: the arms that ``--quick`` runs; empty runs all.
        view: of the data, in all arms.
        observe: in all arms.
        DATA: the data set; ``standardize`` prepares it so.
        notes: what a reader must know.
    """

    name: str
    QUESTION: str
    setting: str
    arms: Mapping[str, Arm]
    claims: Sequence[Claim]
    draw: Callable[[Samples], Sequence[Chart | Contours]]
    recipe: Mapping[str, Any]
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_arms: Sequence[str] = ()
    view: View | None = None
    observe: Observer | None = None
    DATA: str = "mnist5k"
    STANDARDIZE: bool = True
    notes: Sequence[str] = ()

    def run(self, settings: Settings, data: Dataset, pool: Pool, folder: Path) -> Lesson:
        """Sweep where an arm asks for it, run every arm with every seed, and judge the claims.

        Raises:
            SettingsError: the settings ask for what a study of claims does not have.
            RecipeError: a recipe's field cannot be.
            StudyError: the runs cannot be made or stored; ``ArmFailedError`` where all of an arm's failed.
        """
        _refuse(settings)
        fields = {**self.recipe, **(self.quick if settings.quick else {}), **settings.recipe}
        if "evaluate_every" not in fields:
            times = QUICK_EVALUATIONS if settings.quick else EVALUATIONS
            fields["evaluate_every"] = max(1, fields["steps"] // times)
        arms = self._chosen(settings)
        recipes = {name: shared({**fields, **arm.fields}, {}) for name, arm in arms.items()}
        seeds = range(settings.seed_count)
        recipes, notes = self._tuned(arms, recipes, pool, folder)
        jobs = [
            self._job(name, recipe.replace(seed=seed), folder, self._experiment(arms[name]))
            for name, recipe in recipes.items()
            for seed in seeds
        ]
        runs = pool.run(self.name, jobs)
        _all_failed(runs)
        samples = Samples.of(runs)
        drawn = list(self.draw(samples))
        base = shared(fields, {}).to_dict()
        return Lesson(
            study=self.name,
            question=self.QUESTION,
            setting=self.setting,
            verdicts=tuple(claim.judge(samples) for claim in self.claims),
            charts=tuple(chart for chart in drawn if isinstance(chart, Chart)),
            contours=tuple(chart for chart in drawn if isinstance(chart, Contours)),
            arms={name: _changes(recipe, base, arms[name]) for name, recipe in recipes.items()},
            recipe=base,
            data=runs[0].data,
            seeds=settings.seed_count,
            quick=settings.quick,
            runs=tuple(job.path.relative_to(folder).as_posix() for job in jobs),
            notes=(*self.notes, *notes, *_told(runs)),
            environment=environment(),
        )

    def _chosen(self, settings: Settings) -> dict[str, Arm]:
        if settings.quick and self.quick_arms:
            return {name: self.arms[name] for name in self.quick_arms}
        return dict(self.arms)

    def _experiment(self, arm: Arm) -> Experiment:
        return Experiment(arm.view or self.view, arm.observe or self.observe)

    def _job(self, arm: str, recipe: Recipe, folder: Path, experiment: Experiment, group: str = "") -> Job:
        return Job.of(arm, recipe, folder, group or self.name, probe=False, experiment=experiment)

    def _tuned(
        self, arms: Mapping[str, Arm], recipes: Mapping[str, Recipe], pool: Pool, folder: Path
    ) -> tuple[dict[str, Recipe], list[str]]:
        """Give the arms that ask for it the learning rate that is best in the mean over the sweep's seeds."""
        tuned = [(name, rate) for name, arm in arms.items() for rate in arm.rates]
        if not tuned:
            return dict(recipes), []
        jobs = [
            self._job(
                f"sweep-{name}-lr{rate:g}",
                recipes[name].replace(learning_rate=rate, seed=seed),
                folder,
                replace(self._experiment(arms[name]), observe=None),  # it takes its time
                f"{self.name}: sweep",
            )
            for name, rate in tuned
            for seed in SWEEP_SEEDS
        ]
        runs = iter(pool.run(f"{self.name}: sweep", jobs))
        ranks = {each: tuple(map(fmean, zip(*(rank(next(runs)) for _ in SWEEP_SEEDS), strict=True))) for each in tuned}
        best = {name: min(arm.rates, key=lambda r: ranks[name, r]) for name, arm in arms.items() if arm.rates}
        edges = [name for name, rate in best.items() if rate in (min(arms[name].rates), max(arms[name].rates))]
        notes = [
            f"Each arm has the learning rate at which it did best in a sweep with {len(SWEEP_SEEDS)} seeds of its own: "
            + ", ".join(f"{name} {rate:g}" for name, rate in best.items())
            + "."
        ]
        if edges:
            notes.append(f"At the edge of the sweep, so that more may be found beyond it: {', '.join(edges)}.")
        return {
            n: recipe.replace(learning_rate=best.get(n, recipe.learning_rate)) for n, recipe in recipes.items()
        }, notes


def _refuse(settings: Settings) -> None:
    given = {
        "arms": settings.arms,
        "target_score": settings.target_score is not None,
        "learning_rates": settings.learning_rates,
        "initializations": settings.initializations,
        "depths": settings.depths is not None,
    }
    for name, value in given.items():
        if value:
            raise SettingsError(
                f"the study {settings.study!r} judges fixed claims and takes no {name}; leave it out, or use the study "
                "'compare' for arms of your own"
            )


def _all_failed(runs: Sequence[Run]) -> None:
    by_arm: dict[str, list[Run]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, []).append(run)
    for arm, its in by_arm.items():
        if all(run.status == "failed" for run in its):
            raise ArmFailedError(f"every run of the arm {arm!r} failed: {its[0].message}")


def _changes(recipe: Recipe, base: Mapping[str, Any], arm: Arm) -> dict[str, Any]:
    changed = {name: value for name, value in recipe.to_dict().items() if value != base[name]}
    return {**changed, **({"view": repr(arm.view)} if arm.view else {})}


def _told(runs: Sequence[Run]) -> list[str]:
    """Runs that did not finish, none of which is left out unless a figure does not exist."""
    notes = []
    for status in ("diverged", "failed"):
        count: dict[str, int] = {}
        for run in runs:
            if run.status == status:
                count[run.arm] = count.get(run.arm, 0) + 1
        if count:
            notes.append(f"Runs that {status}: " + ", ".join(f"{arm} {n}" for arm, n in count.items()) + ".")
    return notes
