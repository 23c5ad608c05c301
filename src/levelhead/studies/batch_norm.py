"""How many fewer training steps does batch normalization need, against a network that is tuned without it?

After Ioffe & Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", section 4.2.1, on a small network. There the baseline has the learning rate of its authors; here it has the best
learning rate and initialization of a sweep, or the comparison would flatter batch norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.records import Answer, Chart, Line, Run
from levelhead.studies import arms as arm_settings
from levelhead.studies import words
from levelhead.studies.batch_norm_lesson import lesson
from levelhead.studies.jobs import Job
from levelhead.studies.outcome import SHARE, best_scores, chance, goal, median, speedup, steps_to
from levelhead.studies.study import Study
from levelhead.studies.sweep import Sweep

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.studies.pool import Pool
    from levelhead.studies.settings import Settings
    from levelhead.training import Recipe

QUESTION = "How many fewer steps does batch normalization need to 98 % of a tuned plain network's best score?"
DATA, STANDARDIZE = "mnist5k", True

ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "BN-baseline": {"normalization": "batch"},
    "BN-x5": {"normalization": "batch", "learning_rate_times": 5},
    "BN-x30": {"normalization": "batch", "learning_rate_times": 30},
    "plain-sigmoid": {"activation": "sigmoid"},
    "BN-x5-sigmoid": {"normalization": "batch", "activation": "sigmoid", "learning_rate_times": 5},
}
RECIPE: dict[str, Any] = {"network": "mlp", "width": 100, "depth": 6, "batch_size": 60, "steps": 1000}
#: A convnet of the same time a step: channels and blocks, not units and layers.
CONVNET: dict[str, Any] = {**RECIPE, "width": 16, "depth": 2}
LEARNING_RATES = (0.03, 0.1, 0.3, 1.0)
INITIALIZATIONS = ("default", "he")
#: Batch norm depends little on the initialization: giving it no choice saves a tenth of the study, at its own expense.
NORMED_INITIALIZATIONS = ("default",)
DEPTHS = (3, 6, 10)
#: What ``--quick`` changes, beside the seeds; it leaves out the chart by depth.
QUICK: dict[str, Any] = {"steps": 400, "evaluate_every": 20}

__all__ = ["ARMS", "QUESTION", "lesson", "run"]


@dataclass(frozen=True)
class _Pair:
    """Plain against batch norm at one depth, each at its own best of a sweep."""

    depth: int
    plain: Sweep
    normed: Sweep

    @classmethod
    def at(cls, depth: int, recipe: Recipe, baseline: str, settings: Settings) -> _Pair:
        recipe = recipe.replace(depth=depth)
        return cls(
            depth,
            _sweep(f"{baseline}-depth{depth}", recipe, settings),
            _sweep(f"BN-depth{depth}", recipe.replace(normalization="batch"), settings, NORMED_INITIALIZATIONS),
        )


def run(settings: Settings, data: Dataset, pool: Pool, folder: Path) -> Answer:
    """Sweep, then run every arm, then plain and batch norm by depth; the answer has the table and both charts.

    Raises:
        SettingsError: an arm is not known.
        RecipeError: a recipe's field cannot be.
        StudyError: the runs cannot be made or stored.
    """
    if settings.quick:
        settings = settings.changed(recipe={**QUICK, **settings.recipe}, depths=settings.depths or ())
    arms = arm_settings.chosen(settings.arms, ARMS)
    start = arm_settings.shared(settings.recipe, CONVNET if settings.recipe.get("network") == "convnet" else RECIPE)
    baseline, fields = next(iter(arms.items()))
    own_fields = {name: value for name, value in fields.items() if name != "learning_rate_times"}
    plain = arm_settings.build(start, {baseline: own_fields})[baseline]
    tuning = settings.changed(recipe=own_fields)
    own = _sweep(f"{baseline}-depth{start.depth}", plain, tuning)
    arm_settings.build(start, arms)  # a mistake in any arm is told before the sweep, not after it
    pairs = [_Pair.at(depth, plain, baseline, tuning) for depth in _depths(settings, start)]

    sweeps = _distinct([own, *(sweep for pair in reversed(pairs) for sweep in (pair.plain, pair.normed))])
    swept = _by_sweep(pool, sweeps, folder)
    base = own.best(swept[own.name])
    found = start.replace(learning_rate=base.learning_rate, initialization=base.initialization)

    study = Study(
        QUESTION, data, arm_settings.build(found, arms), settings.seed_count, settings.target_score, "batch-norm"
    )
    jobs = study.jobs(folder)
    tuned = {
        sweep.name: [
            Job.of(f"tuned-{sweep.name}", best.replace(seed=seed), folder, group=f"depth {best.depth}", probe=False)
            for seed in study.seed_list
        ]
        for sweep, best in ((sweep, sweep.best(swept[sweep.name])) for sweep in reversed(sweeps))
    }
    # At its own depth the baseline is tuned already: its runs are those of the table.
    tuned[own.name] = [job for job in jobs if job.arm == baseline]
    unique = {job.path: job for job in (*jobs, *(job for some in reversed(tuned.values()) for job in some))}
    made = dict(zip(unique, pool.run("runs", list(unique.values())), strict=True))
    table = [made[job.path] for job in jobs]
    by_depth = {name: [made[job.path] for job in some] for name, some in tuned.items()}

    charts = [_sweep_chart(own, swept[own.name], base, table[0].metric)]
    if pairs:
        charts.append(_depth_chart(pairs, swept, by_depth, chance(data)[1]))
    notes = [
        f"Every arm has the initialization ({base.initialization}) and, times 1, 5 or 30, the learning rate "
        f"({base.learning_rate:g}) at which {baseline} did best in the sweep, which has a seed of its own."
    ]
    if own.at_edge(base):
        notes.append(
            f"The best learning rate, {base.learning_rate:g}, is at the edge of the sweep: {baseline} might do better "
            "beyond it; widen learning_rates."
        )
    answer = study.answer(table, folder, data, charts=charts, notes=notes)
    return _with_sentence(answer, study, data)


def _sweep(name: str, recipe: Recipe, settings: Settings, initializations: Sequence[str] = INITIALIZATIONS) -> Sweep:
    """What the settings fix is not swept."""
    fixed = settings.recipe
    rates = (recipe.learning_rate,) if "learning_rate" in fixed else settings.learning_rates or LEARNING_RATES
    starts = (recipe.initialization,) if "initialization" in fixed else settings.initializations or initializations
    return Sweep(name, recipe, rates, starts)


def _depths(settings: Settings, recipe: Recipe) -> Sequence[int]:
    """By depth only where depth is a number of equal layers."""
    if settings.depths is not None:
        return sorted(set(settings.depths))
    return DEPTHS if recipe.network == "mlp" else ()


def _distinct(sweeps: Sequence[Sweep]) -> list[Sweep]:
    return list({sweep.name: sweep for sweep in sweeps}.values())


def _by_sweep(pool: Pool, sweeps: Sequence[Sweep], folder: Path) -> dict[str, list[Run]]:
    jobs = [(sweep.name, job) for sweep in sweeps for job in sweep.jobs(folder)]
    runs = pool.run("sweep", [job for _, job in jobs])
    by_name: dict[str, list[Run]] = {}
    for (name, _), made in zip(jobs, runs, strict=True):
        by_name.setdefault(name, []).append(made)
    return by_name


def _sweep_chart(sweep: Sweep, runs: Sequence[Run], best: Recipe, metric: str) -> Chart:
    return Chart(
        title="The sweep that the baseline's learning rate and initialization come from",
        x_label="learning rate",
        y_label=f"best validation {metric}",
        lines=tuple(sweep.lines(runs, "plain")),
        log_x=True,
        note=f"{words.network(best.to_dict())}; best: learning rate {best.learning_rate:g}, {best.initialization} "
        f"initialization. One run a point; the files are runs/sweep-{sweep.name}-*.json.",
    )


def _depth_chart(
    pairs: Sequence[_Pair], swept: dict[str, list[Run]], made: dict[str, list[Run]], least: float
) -> Chart:
    gains, notes = [], []
    for pair in pairs:
        plain, normed = made[pair.plain.name], made[pair.normed.name]
        metric = plain[0].metric
        target = goal(plain, least) if best_scores(plain) else math.inf
        recipe = pair.plain.recipe
        slow, fast = ([steps_to(run, target) for run in runs] for runs in (plain, normed))
        gain = speedup(slow, fast, recipe.steps, recipe.evaluate_every)
        gains.append(gain)
        tuned = [sweep.best(swept[sweep.name]) for sweep in (pair.plain, pair.normed)]
        notes.append(
            f"Depth {pair.depth}: {words.ratio(gain)}; target {words.score(target, metric)}, batch norm's best "
            f"{words.score(median(best_scores(normed)).value, metric)}; "
            + ", ".join(
                f"{name} at {recipe.learning_rate:g} ({recipe.initialization}"
                f"{', the edge of the sweep' if sweep.at_edge(recipe) else ''})"
                for name, sweep, recipe in zip(("plain", "batch norm"), (pair.plain, pair.normed), tuned, strict=True)
            )
        )
    line = Line(
        "batch norm over plain, both tuned",
        tuple(float(pair.depth) for pair in pairs),
        tuple(gain.value for gain in gains),
        tuple(gain.low for gain in gains),
        tuple(gain.high for gain in gains),
    )
    return Chart(
        title="The speed-up by depth",
        x_label="hidden layers",
        y_label=f"times fewer steps to {SHARE:.0%} of the tuned plain network's best",
        lines=(line,),
        note=". ".join(notes) + ". At each depth both have the best learning rate of a sweep, and plain the best "
        "initialization; the files are runs/tuned-*.json and runs/sweep-*.json.",
    )


def _with_sentence(answer: Answer, study: Study, data: Dataset) -> Answer:
    """Batch norm at the baseline's own learning rate, then the fastest arm where that is another."""
    from dataclasses import replace

    rows = {row.arm: row for row in answer.rows}
    first = rows.get("BN-baseline")
    if first is None or first.arm == answer.baseline or words.nobody(answer):
        return words.with_sentence(answer, data.name)
    target = words.score(answer.target, answer.metric)
    base = rows[answer.baseline]
    fastest = words.fastest([row for row in answer.rows if row.arm != answer.baseline])
    name = "the tuned plain network"
    clause = words.against(first, base, target, answer.steps, name)
    what = words.network(study.arms[answer.baseline].to_dict())
    sentence = (
        f"{words.verdict(first.speedup)}: on {data.name} ({what}), batch norm at the plain network's learning rate "
        f"{clause}"
    )
    if fastest.arm != first.arm:
        clause = words.against(fastest, base, target, answer.steps, name)
        sentence += f". {words.verdict(fastest.speedup)}: the fastest arm, {fastest.arm}, {clause}"
    return replace(answer, sentence=sentence + ".")
