"""A study of one's own: arms times seeds, a target, and the table that comes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.lessons import Answer, score
from levelhead.records import Chart, Line, Run, environment
from levelhead.studies.claims import Claim, faster
from levelhead.studies.display import shown
from levelhead.studies.frame import changes, decide, plan, trained
from levelhead.studies.jobs import ArmFailedError, Job, StudyError, locked
from levelhead.studies.outcome import SHARE, best_scores, chance, goal, row, speedup, steps_to
from levelhead.studies.pool import Pool, Watcher
from levelhead.studies.samples import Samples
from levelhead.studies.workers import Train

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training import Recipe

#: Seeds of the baseline that a target without a sweep comes from, so that later looks do not move it.
_FIRST = 5
#: Targets at which the speed-up is drawn, as shares of the baseline's best.
_SHARES = tuple(round(0.9 + 0.01 * i, 2) for i in range(11))


@dataclass(frozen=True)
class Study:
    """A question to data: which of several recipes trains best, in how many fewer steps, and is it real?

    Args:
        question: in a sentence; the report's headline.
        data: what every run trains on: a ``Dataset``, or what ``levelhead.data.load`` takes.
        arms: recipes by name, all of the same number of steps; the first is the baseline of the speed-ups.
        seeds: how many seeds (0, 1, ...) each arm is run with, or which; they replace the recipes' own. None looks at
            5, 10, 20 and 40 of them, and goes on only with arms whose comparison is not decided.
        target: the validation score that steps are counted to; None takes 98 % of the baseline's median best score.
        name: a short name for the record.
        claims: what is judged beside each arm's steps, from the target; ``texts`` are claims on those, by arm.
        target_from: where a given target comes from.

    Raises:
        ValueError: no arm, no seed, a seed twice, or arms that differ in ``steps`` or ``evaluate_every``.

    Example:
        >>> arms = {"plain": Recipe(), "BN": Recipe(normalization="batch")}
        >>> study = lh.Study("Does batch norm help?", "digits", arms)
        >>> print(study.run("reports/mine"))  # in a script: under ``if __name__ == "__main__":``
    """

    question: str
    data: Dataset | str
    arms: Mapping[str, Recipe]
    seeds: int | Sequence[int] | None = None
    target: float | None = None
    name: str = "study"
    claims: Sequence[Claim] = ()
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    target_from: str = "given"

    def __post_init__(self) -> None:
        if not self.arms:
            raise ValueError("a study needs at least one arm, got none")
        first = list(plan(self.seeds)[0][0])
        if not first or len(set(first)) < len(first):
            raise ValueError(f"a study needs at least one seed, and each once, got seeds={self.seeds!r}")
        for name in ("steps", "evaluate_every"):
            values = {arm: getattr(recipe, name) for arm, recipe in self.arms.items()}
            if len(set(values.values())) > 1:
                raise ValueError(f"the arms must have the same {name}, or steps to target do not compare: {values}")

    @property
    def baseline(self) -> str:
        """The arm that the speed-ups are relative to: the first."""
        return next(iter(self.arms))

    def run(
        self,
        out: Path | str,
        *,
        workers: int | None = None,
        watcher: Watcher | None = None,
        train: Train | None = None,
        options: dict[str, Any] | None = None,
        engine: str = "local",
        address: str | None = None,
    ) -> Answer:
        """Make the runs that ``out`` does not hold yet, in parallel, and sum up all of them: answer and report.

        It can be stopped at any moment, by force too: started again, it goes on, and comes to the same table.

        Args:
            out: the folder that keeps the runs (``runs/<arm>-<seed>.json``), ``answer.json`` and, where jinja2 and
                plotly are installed, ``report.html``.
            workers: processes; one a core by default.
            watcher: is told of the progress; by default it is drawn on standard error.
            train: the training function, ``levelhead.training.train`` by default.
            options: more keyword arguments for it, such as ``accelerator``.
            engine: ``local``, or ``ray`` for the actors of a Ray cluster; see ``Pool``.
            address: of the Ray cluster.

        Raises:
            StudyError: the folder cannot be written or is in use, the disk is full, or every baseline run failed.
        """
        folder = Path(out)
        with locked(folder), shown(watcher) as drawn:
            place: dict[str, Any] = {"workers": workers, "engine": engine, "address": address}
            with Pool(load(self.data), **place, train=train, options=options, watcher=drawn) as pool:
                answer = self.within(pool, folder)
            keep(answer, folder)
        return answer

    def job(self, folder: Path) -> Callable[[str, int], Job]:
        """The run of an arm with a seed."""
        return lambda arm, seed: Job.of(arm, self.arms[arm].replace(seed=seed), folder)

    def within(
        self, pool: Pool, folder: Path, *, setting: str = "", charts: Sequence[Chart] = (), notes: Sequence[str] = (),
        quick: bool = False,
    ) -> Answer:  # fmt: skip
        """Make the runs in a pool that is there, and sum them up.

        Raises:
            StudyError: as ``run``.
        """
        data = pool.data
        by_chance, luck = chance(data)
        others = [arm for arm in self.arms if arm != self.baseline]
        found: list[float] = []

        def claims(samples: Samples) -> list[Claim]:
            baseline = [samples.runs[self.baseline, seed] for seed in samples.seeds[:_FIRST]]
            found.append(self.goal(baseline, luck))
            return [*(self._comparison(arm, found[0], data) for arm in others), *self.claims]

        by_arm, verdicts, jobs = decide("runs", list(self.arms), self.job(folder), claims, plan(self.seeds), pool)
        (target,) = found
        baseline, recipe = by_arm[self.baseline], self.arms[self.baseline]
        own = dict(zip(others, verdicts, strict=False))
        runs = [run for some in by_arm.values() for run in some]
        scores = [row(a, changes(self.arms[a], recipe), by_arm[a], baseline, target, own.get(a)) for a in self.arms]
        return Answer(
            study=self.name,
            question=self.question,
            setting=f"{trained(recipe, {}, None, data)} {setting}".strip(),
            verdicts=tuple(verdicts),
            rows=tuple(scores),
            charts=(*self._by_target(by_arm), *charts),
            contours=(),
            arms={arm: changes(each, recipe) for arm, each in self.arms.items()},
            recipe=recipe.to_dict(),
            data=runs[0].data,
            runs=tuple(job.path.relative_to(folder).as_posix() for job in jobs),
            notes=(*notes, *self._notes(runs, data), *_leak(scores, data), *data.notes),
            environment=environment(),
            quick=quick,
            target=target,
            target_from=self.target_from
            if self.target is not None
            else f"{100 * SHARE:g} % of the median over seeds of the best score of {self.baseline}",
            metric=data.metric,
            steps=recipe.steps,
            baseline=self.baseline,
            chance=by_chance,
            luck=luck,
        )

    def goal(self, baseline: Sequence[Run], least: float) -> float:
        """The score that steps are counted to.

        Raises:
            StudyError: it is to come from the baseline, and no run of that has a score.
        """
        if self.target is not None:
            return self.target
        if not best_scores(baseline):
            raise ArmFailedError(f"no run of the baseline {self.baseline!r} has a score: {baseline[0].message}")
        return goal(best_scores(baseline), least)

    def _comparison(self, arm: str, target: float, data: Dataset) -> Claim:
        fields = {
            "text": f"{arm} against {self.baseline}.",
            "effect": f"steps to {score(target, data.metric)} on {data.name}, {self.baseline} over {arm}",
            "words": ("Faster", "Slower"),
        }
        return faster(self.baseline, arm, target, **{**fields, **self.texts.get(arm, {})})

    def _by_target(self, by_arm: Mapping[str, Sequence[Run]]) -> list[Chart]:
        """The speed-up of every arm against the target, from the seeds that it shares with the baseline."""
        best = best_scores(by_arm[self.baseline])
        recipe = self.arms[self.baseline]
        lines = []
        for arm in self.arms if best else ():
            if arm == self.baseline:
                continue
            pairs = list(zip(by_arm[self.baseline], by_arm[arm], strict=False))
            gains = []
            for share in _SHARES:
                target = goal(best, -math.inf, share)
                slow, fast = ([steps_to(pair[i], target) for pair in pairs] for i in (0, 1))
                gains.append(speedup(slow, fast, recipe.steps, recipe.evaluate_every))
            kept = [(100 * s, g) for s, g in zip(_SHARES, gains, strict=True) if math.isfinite(g.value) and g.value > 0]
            shown = [(s, g) for s, g in kept if g.low > 0 and math.isfinite(g.high)]
            if shown:
                x, found = zip(*shown, strict=True)
                ends = ([getattr(g, name) for g in found] for name in ("value", "low", "high"))
                lines.append(Line(arm, tuple(x), *map(tuple, ends)))
        title = "The speed-up against the target"
        note = (
            f"Line: times fewer steps than {self.baseline}; area: its 95 % interval over seeds. A line ends where a "
            "run misses the target. One target hides where curves cross."
        )
        label = f"target, % of {self.baseline}'s best"
        return (
            [Chart(title, label, "times fewer steps", tuple(lines), log_y=True, note=note, band=True)] if lines else []
        )

    def _notes(self, runs: Sequence[Run], data: Dataset) -> list[str]:
        recipe = self.arms[self.baseline]
        n = min(sum(run.arm == arm for run in runs) for arm in self.arms)
        notes = [
            f"Every run had {recipe.steps} steps, scored every {recipe.evaluate_every}; a run that did not reach the "
            "target counts as not reached, and none is left out."
        ]
        if n == 1:
            notes.append("With one seed there is no interval: the differences may be chance.")
        elif n <= 5:
            notes.append(
                f"With {n} seeds a median's interval is the range of the seeds; it covers the truth with probability "
                f"{100 * (1 - 0.5 ** (n - 1)):.4g} %."
            )
        notes.append(
            "A speed-up is the geometric mean of the ratios of the same seed, with Student's t on their logarithms; "
            "where a run missed the target, the factor between the arms' steps that the log-rank test refuses least."
        )
        if (counts := data.train.targets.bincount() if data.metric == "balanced accuracy" else None) is not None:
            notes.append(
                f"{100 * float(counts.max()) / len(data.train):.1f} % of the training rows are of one class: a score "
                "is the mean over classes of the share that is right, or the other classes would hardly count."
            )
        versions = {str(run.environment.get("versions")) for run in runs}
        if len(versions) > 1:
            notes.append("The runs were made with different versions of packages: see the run files.")
        failures = [f"{run.arm}, seed {run.seed}: {run.message}" for run in runs if run.status == "failed"]
        return notes + [f"Failed: {failure}" for failure in failures[:5]]


def _leak(rows: Sequence[Any], data: Dataset) -> list[str]:
    """A remark where a score is too good to be true: no mistake in any validation row."""
    perfect = [row.arm for row in rows if row.best.low >= 1]
    if not perfect:
        return []
    rows_ = [{row.numpy().tobytes() for row in split.inputs.flatten(1)} for split in (data.train, data.validation)]
    twice = len(rows_[0] & rows_[1])
    seen = (
        f"{twice:,} of its {len(rows_[1]):,} different rows are training rows too"
        if twice
        else "no row of it is a training row"
    )
    return [
        f"With every seed {perfect[0]} makes no mistake in validation. Where that is too good, a column may give the "
        f"target away, or rows may come twice ({seen})."
    ]


def load(data: Dataset | str) -> Dataset:
    """The data set itself, or the one of that name."""
    if not isinstance(data, str):
        return data
    from levelhead.data import load as load_by_name

    return load_by_name(data)


def keep(answer: Answer, folder: Path, settings: str = "") -> None:
    """Store an answer, the settings that repeat it and its report; without jinja2 and plotly no report.

    Raises:
        StudyError: they cannot be written.
    """
    from levelhead import report

    try:
        answer.save(folder / "answer.json")
        if settings:
            (folder / "study.toml").write_text(settings, encoding="utf-8")
        report.write(folder)
    except ModuleNotFoundError:
        pass
    except OSError as error:
        raise StudyError(f"cannot write to {folder} ({error.strerror}); the runs are kept") from error
