"""The frame of every study: arms with seeds, looked at until the claims on them are decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.lessons import LEVEL, Answer, Contours, Verdict, named
from levelhead.records import Chart, Run, environment
from levelhead.studies.arms import shared
from levelhead.studies.claims import Claim
from levelhead.studies.drawing import Draws
from levelhead.studies.experiment import Experiment, View
from levelhead.studies.jobs import ArmFailedError, Job
from levelhead.studies.outcome import LOOKS
from levelhead.studies.samples import Samples
from levelhead.studies.sweep import Sweep, told, tune

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.studies.pool import Pool
    from levelhead.studies.settings import Settings
    from levelhead.training import Recipe
    from levelhead.training.probes import Observer

#: How often a run is evaluated where a study does not say, and how often a quick one's.
EVALUATIONS, QUICK_EVALUATIONS = 20, 10
#: The seeds of each look, and what its interval may miss.
Plan = Sequence[tuple[Sequence[int], float]]


def plan(seeds: int | Sequence[int] | None) -> Plan:
    """Looks at more and more seeds; a single one where their number is fixed."""
    if seeds is None:
        return [(range(n), level) for n, level in LOOKS]
    return [(range(seeds) if isinstance(seeds, int) else seeds, LEVEL)]


def decide(
    title: str, arms: Sequence[str], job: Callable[[str, int], Job], claims: Callable[[Samples], Sequence[Claim]],
    looks: Plan, pool: Pool,
) -> tuple[dict[str, list[Run]], list[Verdict], list[Job]]:  # fmt: skip
    """Run every arm with the seeds of the first look, and those of claims that are not decided with those of the next.

    A claim is judged at each look from the seeds of that look alone, and no more once it is decided; one of which no
    seed has an effect is not looked at again.

    Args:
        title: of the stage, for a watcher.
        arms: their names.
        job: the run of an arm and a seed.
        claims: what is judged, from the runs of the first look.
        looks: as ``plan`` gives them.
        pool: makes the runs.

    Returns:
        The runs by arm, the verdicts in the order of the claims, and the jobs.

    Raises:
        StudyError: as ``Pool.run``; ``ArmFailedError`` where all runs of an arm failed.
    """
    made: dict[tuple[str, int], Run] = {}
    jobs: dict[tuple[str, int], Job] = {}
    verdicts: dict[int, Verdict] = {}
    asked: list[Claim] = []
    wanted = set(arms)
    for look, (seeds, level) in enumerate(looks, start=1):
        new = {(arm, s): job(arm, s) for arm in arms if arm in wanted for s in seeds if (arm, s) not in jobs}
        jobs |= new
        stage = title if look == 1 else f"{title}, look {look}: {len(seeds)} seeds"
        made |= zip(new, pool.run(stage, list(new.values())), strict=True)
        samples = Samples.of(list(made.values()))
        asked = asked or list(claims(samples))
        undecided: set[str] = set()
        for i, claim in enumerate(asked):
            if i in verdicts and (verdicts[i].ruling != "not decided" or not wanted >= claim.arms(samples)):
                continue
            own = samples.only(claim.arms(samples), seeds)
            verdicts[i] = claim.judge(own, level, look if len(looks) > 1 else 0)
            if verdicts[i].ruling == "not decided" and not all(map(math.isnan, verdicts[i].effects)):
                undecided |= claim.arms(samples)
        wanted = undecided
        if not wanted:
            break
    by_arm = {arm: [run for (of, _), run in made.items() if of == arm] for arm in arms}
    return by_arm, [verdicts[i] for i in range(len(asked))], list(jobs.values())


@dataclass(frozen=True)
class Arm:
    """What one arm changes.

    Args:
        fields: of the recipe.
        view: of the data; None takes the study's.
        observe: see ``Experiment``; None takes the study's.
        rates: learning rates of which a sweep with seeds of its own chooses, by steps to the study's ``target``; empty
            takes the recipe's.
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
        setting: why it is done so, in a few sentences; what was run stands before it, from the recipe and the data.
        arms: by name.
        claims: what is judged.
        draw: the charts.
        recipe: fields that all arms share.
        quick: fields that ``--quick`` changes.
        quick_arms: the arms that ``--quick`` runs; empty runs all.
        view: of the data, in all arms.
        observe: in all arms.
        target: the validation score that sweeps count steps to.
        DATA: the data set; ``standardize`` prepares it so.
        notes: what a reader must know.
    """

    name: str
    QUESTION: str
    setting: str
    arms: Mapping[str, Arm]
    claims: Sequence[Claim]
    draw: Draws
    recipe: Mapping[str, Any]
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_arms: Sequence[str] = ()
    view: View | None = None
    observe: Observer | None = None
    target: float | None = None
    DATA: str = "mnist5k"
    STANDARDIZE: bool = True
    notes: Sequence[str] = ()

    def run(self, settings: Settings, data: Dataset, pool: Pool, folder: Path) -> Answer:
        """Sweep where an arm asks for it, run the arms, and judge the claims.

        Raises:
            SettingsError: the settings ask for what a study of claims does not have.
            RecipeError: a recipe's field cannot be.
            StudyError: the runs cannot be made or stored; ``ArmFailedError`` where all of an arm's failed.
        """
        settings.refuse(
            ("arms", "target_score", "learning_rates", "initializations", "depths"),
            f"the study {settings.study!r} judges fixed claims and takes no {{}}; leave it out, or use the study "
            "'compare' for arms of your own",
        )
        fields = {**self.recipe, **(self.quick if settings.quick else {}), **settings.recipe}
        fewer = self.quick_arms if settings.quick else ()
        arms = {name: arm for name, arm in self.arms.items() if not fewer or name in fewer}
        base = shared(fields, {}, len(data.train), QUICK_EVALUATIONS if settings.quick else EVALUATIONS)
        recipes = {name: base.replace(**arm.fields) for name, arm in arms.items()}
        sweeps = [
            Sweep(
                name,
                recipes[name],
                arm.rates,
                [recipes[name].initialization],
                self.target,
                "",
                Experiment(arm.view or self.view),
            )
            for name, arm in arms.items()
            if arm.rates
        ]
        tuned = tune(sweeps, pool, folder, f"{self.name}: sweep") if sweeps else {}
        recipes |= {name: found.recipe for name, found in tuned.items()}

        def job(name: str, seed: int) -> Job:
            arm = arms[name]
            experiment = Experiment(arm.view or self.view, arm.observe or self.observe)
            return Job.of(name, recipes[name].replace(seed=seed), folder, self.name, probe=False, experiment=experiment)

        by_arm, verdicts, jobs = decide(
            self.name, list(arms), job, lambda _: self.claims, plan(settings.seed_count), pool
        )
        failed(by_arm)
        runs = [run for some in by_arm.values() for run in some]
        drawn = [
            replace(chart, title=named(chart.title, data.metric), y_label=named(chart.y_label, data.metric))
            for chart in self.draw(Samples.of(runs))
        ]
        return Answer(
            study=self.name,
            question=self.QUESTION,
            setting=f"{trained(base, self.arms, self.view, data)} {named(self.setting, data.metric)}",
            verdicts=tuple(verdicts),
            rows=(),
            charts=tuple(chart for chart in drawn if isinstance(chart, Chart)),
            contours=tuple(chart for chart in drawn if isinstance(chart, Contours)),
            arms={name: changes(recipe, base, arms[name].view) for name, recipe in recipes.items()},
            recipe=base.to_dict(),
            data=runs[0].data,
            runs=tuple(job.path.relative_to(folder).as_posix() for job in jobs),
            notes=(*self.notes, *(told(tuned) if tuned else ()), *ended(runs)),
            environment=environment(),
            quick=settings.quick,
            metric=data.metric,
        )


def trained(base: Recipe, arms: Mapping[str, Arm], view: View | None, data: Dataset) -> str:
    """What was trained on what, from the recipe and the data that ran."""
    varied = {name for arm in arms.values() for name in arm.fields}
    kind = {"mlp": "An MLP", "convnet": "A convnet"}.get(base.network, f"The network {base.network}")
    units = {"convnet": ("blocks", "channels")}.get(
        base.network, ("hidden layers", "units" if "activation" in varied else f"{base.activation} units")
    )
    shape = [f"{base.depth} {units[0]}"] if "depth" not in varied else []
    shape += [f"{base.width} {units[1]}"] if "width" not in varied else []
    rate = (
        f" at {base.learning_rate:g}"
        if "learning_rate" not in varied and not any(arm.rates for arm in arms.values())
        else ""
    )
    batches = f"batches of {base.batch_size}, " if "batch_size" not in varied else ""
    seen = (
        f"{data.name}, seen through {view!r} anew for each seed"
        if view
        else f"{data.name}, {len(data.train):,} training rows"
    )
    return (
        f"{kind}{' of ' if shape else ''}{' of '.join(shape)} on {seen}: {base.optimizer}{rate}, "
        f"{batches}{base.steps:,} steps, scored every {base.evaluate_every}."
    )


def changes(recipe: Recipe, base: Recipe, view: View | None = None) -> dict[str, Any]:
    """What an arm changes, by field."""
    theirs = base.to_dict()
    changed = {name: value for name, value in recipe.to_dict().items() if value != theirs[name] and name != "seed"}
    return {**changed, **({"view": repr(view)} if view else {})}


def failed(by_arm: Mapping[str, Sequence[Run]]) -> None:
    """Raise ``ArmFailedError`` where all runs of an arm failed."""
    for arm, its in by_arm.items():
        if all(run.status == "failed" for run in its):
            raise ArmFailedError(f"every run of the arm {arm!r} failed: {its[0].message}")


def ended(runs: Sequence[Run]) -> list[str]:
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
