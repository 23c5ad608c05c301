"""A study: arms times seeds, a target, and the table that comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.records import Answer, Chart, Interval, Run, environment
from levelhead.studies import words
from levelhead.studies.jobs import ArmFailedError, Job, locked
from levelhead.studies.outcome import SHARE, best_scores, chance, goal, row, speedup, steps_to
from levelhead.studies.pool import Pool, Train, Watcher

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training import Recipe


@dataclass(frozen=True)
class Study:
    """A question to data: which of several recipes trains best, in how many fewer steps, and is it real?

    Args:
        question: in a sentence; the report's headline.
        data: what every run trains on: a ``Dataset``, or what ``levelhead.data.load`` takes.
        arms: recipes by name, all of the same number of steps; the first is the baseline of the speed-ups.
        seeds: how many seeds (0, 1, ...) each arm is run with, or which; they replace the recipes' own.
        target: the validation score that steps are counted to; None takes 98 % of the baseline's median best score.
        name: a short name for the record.

    Raises:
        ValueError: no arm, no seed, a seed twice, or arms that differ in ``steps`` or ``evaluate_every``.

    Example:
        >>> arms = {"plain": Recipe(), "BN": Recipe(normalization="batch")}
        >>> study = lh.Study("Does batch norm help?", "digits", arms)
        >>> answer = study.run("reports/mine")  # in a script: under ``if __name__ == "__main__":``
    """

    question: str
    data: Dataset | str
    arms: Mapping[str, Recipe]
    seeds: int | Sequence[int] = 5
    target: float | None = None
    name: str = "study"

    def __post_init__(self) -> None:
        if not self.arms:
            raise ValueError("a study needs at least one arm, got none")
        if not self.seed_list or len(set(self.seed_list)) < len(self.seed_list):
            raise ValueError(f"a study needs at least one seed, and each once, got seeds={self.seeds!r}")
        for field in ("steps", "evaluate_every"):
            values = {name: getattr(recipe, field) for name, recipe in self.arms.items()}
            if len(set(values.values())) > 1:
                raise ValueError(f"the arms must have the same {field}, or steps to target do not compare: {values}")

    @property
    def seed_list(self) -> list[int]:
        """The seeds, one by one."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    @property
    def baseline(self) -> str:
        """The arm that the speed-ups are relative to: the first."""
        return next(iter(self.arms))

    def jobs(self, folder: Path) -> list[Job]:
        """Every arm times every seed."""
        return [
            Job.of(arm, recipe.replace(seed=seed), folder)
            for arm, recipe in self.arms.items()
            for seed in self.seed_list
        ]

    def run(
        self,
        out: Path | str,
        *,
        workers: int | None = None,
        watcher: Watcher | None = None,
        train: Train | None = None,
        options: dict[str, Any] | None = None,
    ) -> Answer:
        """Make the runs that ``out`` does not hold yet, in parallel, and sum up all of them in ``out/answer.json``.

        It can be stopped at any moment, by force too: started again, it goes on, and comes to the same table.

        Args:
            out: the folder that keeps the runs (``runs/<arm>-<seed>.json``) and the answer.
            workers: processes; one a core by default.
            watcher: is told of the progress; nothing is drawn by default.
            train: the training function, ``levelhead.training.train`` by default.
            options: more keyword arguments for it, such as ``accelerator``.

        Raises:
            StudyError: the folder cannot be written or is in use, the disk is full, or every baseline run failed.
        """
        folder = Path(out)
        with locked(folder), Pool(load(self.data), workers=workers, train=train, options=options, watcher=watcher) as p:
            answer = self.answer(p.run("runs", self.jobs(folder)), folder, p.data)
            answer.save(folder / "answer.json")
            return answer

    def answer(
        self,
        runs: Sequence[Run],
        folder: Path,
        data: Dataset,
        *,
        sentence: str | None = None,
        charts: Sequence[Chart] = (),
        notes: Sequence[str] = (),
    ) -> Answer:
        """Sum up the runs, in the usual sentence or a study's own."""
        by_arm = {arm: [run for run in runs if run.arm == arm] for arm in self.arms}
        baseline = by_arm[self.baseline]
        by_chance, luck = chance(data)
        target = self.goal(baseline, luck)
        steps = self.arms[self.baseline].steps
        rows = tuple(
            row(arm, self._changes(arm), made, target, self._gain(arm, made, baseline, target))
            for arm, made in by_arm.items()
        )
        answer = Answer(
            study=self.name,
            question=self.question,
            sentence=sentence or "",
            target=target,
            target_from="given"
            if self.target is not None
            else f"{SHARE:.0%} of the median over seeds of the best score of {self.baseline}",
            metric=baseline[0].metric,
            steps=steps,
            baseline=self.baseline,
            rows=rows,
            charts=tuple(charts),
            runs=tuple(job.path.relative_to(folder).as_posix() for job in self.jobs(folder)),
            notes=(*notes, *self._notes(runs), *data.notes),
            environment=environment(),
            chance=by_chance,
            luck=luck,
        )
        return answer if sentence else words.with_sentence(answer, data.name)

    def goal(self, baseline: Sequence[Run], least: float) -> float:
        """The score that steps are counted to.

        Raises:
            StudyError: it is to come from the baseline, and no run of that has a score.
        """
        if self.target is not None:
            return self.target
        if not best_scores(baseline):
            raise ArmFailedError(f"no run of the baseline {self.baseline!r} has a score: {baseline[0].message}")
        return goal(baseline, least)

    def _gain(self, arm: str, runs: Sequence[Run], baseline: Sequence[Run], target: float) -> Interval:
        if arm == self.baseline:
            return Interval(1.0, 1.0, 1.0)
        recipe = self.arms[self.baseline]
        theirs, ours = ([steps_to(run, target) for run in some] for some in (baseline, runs))
        return speedup(theirs, ours, recipe.steps, recipe.evaluate_every)

    def _changes(self, arm: str) -> dict[str, Any]:
        ours, theirs = self.arms[arm].to_dict(), self.arms[self.baseline].to_dict()
        return {field: value for field, value in ours.items() if value != theirs[field] and field != "seed"}

    def _notes(self, runs: Sequence[Run]) -> list[str]:
        n = len(self.seed_list)
        notes = [
            f"Every run had {self.arms[self.baseline].steps} steps, scored every "
            f"{self.arms[self.baseline].evaluate_every}; a run that did not reach the target counts as not reached, "
            "and none is left out."
        ]
        if n == 1:
            notes.append("With one seed there is no interval: the differences may be chance.")
        elif n <= 5:
            notes.append(
                f"With {n} seeds a median's 95 % bootstrap interval is the range of the seeds; it covers the truth "
                f"with probability {100 * (1 - 0.5 ** (n - 1)):.4g} %."
            )
        notes.append(
            "A speed-up is the geometric mean of the ratios of the same seed, with Student's t on their logarithms; "
            "where a run missed the target, their median, which is then a bound or has one."
        )
        versions = {str(run.environment.get("versions")) for run in runs}
        if len(versions) > 1:
            notes.append("The runs were made with different versions of packages: see the run files.")
        failures = [f"{run.arm}, seed {run.seed}: {run.message}" for run in runs if run.status == "failed"]
        return notes + [f"Failed: {failure}" for failure in failures[:5]]


def load(data: Dataset | str) -> Dataset:
    """The data set itself, or the one of that name."""
    if not isinstance(data, str):
        return data
    from levelhead.data import load as load_by_name

    return load_by_name(data)
