"""How many fewer training steps does batch normalization need, against a network that is tuned without it?

After Ioffe & Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", section 4.2.1, on a small network. There the baseline has the learning rate of its authors; here it has the best
learning rate and initialization of a sweep, or the comparison would flatter batch norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.lessons import Answer, figure, in_percent, score
from levelhead.records import Chart, Line
from levelhead.studies import arms as arm_settings
from levelhead.studies.claims import Claim, faster, points
from levelhead.studies.frame import decide, plan
from levelhead.studies.jobs import Job
from levelhead.studies.outcome import SHARE, chance
from levelhead.studies.study import Study
from levelhead.studies.sweep import Sweep, Tuned, told, tune, until

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
DEPTHS = (3, 6, 10)
#: What ``--quick`` changes, beside the seeds; it leaves out the chart by depth.
QUICK: dict[str, Any] = {"steps": 400, "evaluate_every": 20}

#: What lecture 001 says of arms against the plain network's steps.
TEXTS = {
    arm: {
        "text": f"Batch normalization needs fewer steps to the same {{metric}} ({arm}).",
        "source": "lectures 001, 002",
    }
    for arm in ("BN-baseline", "BN-x5", "BN-x30")
}


def _better(arm: str, other: str, text: str) -> Claim:
    return Claim(
        text=text,
        source="lecture 001",
        effect=f"{{metric}} on the test rows where validation was best, {arm} less {other}",
        measure=points("test", arm, other),
        unit="percentage points",
    )


CLAIMS = (
    _better("BN-x5", "plain", "Networks with batch norm come to a higher {metric} (BN-x5)."),
    _better("BN-x30", "plain", "The highest learning rate comes to a higher {metric} than the plain network (BN-x30)."),
    _better("BN-x5-sigmoid", "plain-sigmoid", "Batch normalization lets a network of sigmoids train (BN-x5-sigmoid)."),
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
    defaults = CONVNET if settings.recipe.get("network") == "convnet" else RECIPE
    start = arm_settings.shared(settings.recipe, defaults, len(data.train))
    baseline, fields = next(iter(arms.items()))
    own_fields = {name: value for name, value in fields.items() if name != "learning_rate_times"}
    plain = arm_settings.build(start, {baseline: own_fields})[baseline]
    arm_settings.build(start, arms)  # a mistake in any arm is told before the sweep, not after it
    fixed = {**settings.recipe, **own_fields}
    sweeps = {
        (d, norm): _sweep(baseline, plain, d, norm, fixed, settings) for d in _depths(settings, start) for norm in NORMS
    }
    own = _sweep(baseline, plain, start.depth, "plain", fixed, settings)
    least = chance(data)[1]
    tuned = tune(list({sweep.name: sweep for sweep in (own, *sweeps.values())}.values()), pool, folder, least=least)
    best = tuned[own.name]

    found = start.replace(learning_rate=best.best[0], initialization=best.best[1])
    recipes = arm_settings.build(found, arms)
    lecture = list(arms) == list(ARMS)
    given = settings.target_score is not None
    study = Study(
        question=QUESTION,
        data=data,
        arms=recipes,
        seeds=settings.seed_count,
        target=settings.target_score if given else best.target,
        name="batch-norm",
        claims=CLAIMS if lecture else (),
        texts=TEXTS if baseline == "plain" else {},
        target_from="given" if given else f"{100 * SHARE:g} % of the best that {baseline} has in its sweep",
    )
    notes = [
        f"Every arm has the initialization ({best.best[1]}) and, times 1, 5 or 30, the learning rate "
        f"({best.best[0]:g}) of {baseline}.",
        *told(tuned),
    ]
    charts = [_sweep_chart(best, baseline, data.metric)]
    answer = study.within(pool, folder, setting=SETTING, charts=charts, notes=notes, quick=settings.quick)
    by_depth = {depth: {norm: tuned[sweeps[depth, norm].name] for norm in NORMS} for depth, _ in sweeps}
    if not by_depth:
        return answer
    return replace(answer, charts=(*answer.charts, _depth_chart(by_depth, settings, pool, folder)))


#: What is tuned at each depth, and what it changes.
NORMS: dict[str, dict[str, Any]] = {"plain": {}, "BN": {"normalization": "batch"}}
SETTING = (
    "After the table of lecture 001 (Ioffe & Szegedy 2015, section 4.2.1). The plain network has the best learning "
    "rate and initialization of a sweep; the others take these, the learning rate times 1, 5 or 30. Of a run that "
    "does not get to the target it is known only that it needs more steps than it was given."
)


def _sweep(baseline: str, plain: Recipe, depth: int, norm: str, fixed: Mapping[str, Any], settings: Settings) -> Sweep:
    """The same grid for plain and for batch norm; what the settings fix is not swept."""
    rates = (plain.learning_rate,) if "learning_rate" in fixed else settings.learning_rates or LEARNING_RATES
    starts = (plain.initialization,) if "initialization" in fixed else settings.initializations or INITIALIZATIONS
    name = f"{baseline}-depth{depth}"
    if norm == "plain":
        return Sweep(name, plain.replace(depth=depth), rates, starts)
    return Sweep(f"{norm}-depth{depth}", plain.replace(depth=depth, **NORMS[norm]), rates, starts, like=name)


def _depths(settings: Settings, recipe: Recipe) -> Sequence[int]:
    """By depth only where depth is a number of equal layers."""
    if settings.depths is not None:
        return sorted(set(settings.depths))
    return DEPTHS if recipe.network == "mlp" else ()


def _sweep_chart(tuned: Tuned, baseline: str, metric: str) -> Chart:
    percent = in_percent(metric)
    rate, start = tuned.best
    return Chart(
        title="The sweep that the baseline's learning rate and initialization come from",
        x_label="learning rate",
        y_label=f"best validation {metric}{', %' if percent else ''}",
        lines=tuple(tuned.lines(baseline, 100 if percent else 1)),
        log_x=True,
        note=f"Taken, as the one with the fewest steps to the target: learning rate {rate:g}, {start} initialization. "
        f"Median over seeds, bars to the lowest and the highest; the files are runs/sweep-{tuned.sweep.name}-*.json.",
    )


def _depth_chart(by_depth: Mapping[int, Mapping[str, Tuned]], settings: Settings, pool: Pool, folder: Path) -> Chart:
    """Plain against batch norm at each depth, both at their own best of the same grid, with seeds of the study."""
    arms = {
        f"tuned-{tuned.sweep.name}": (depth, until(tuned.recipe, pair["plain"].target))
        for depth, pair in by_depth.items()
        for tuned in pair.values()
    }

    def job(arm: str, seed: int) -> Job:
        depth, recipe = arms[arm]
        return Job.of(arm, recipe.replace(seed=seed), folder, group=f"depth {depth}", probe=False)

    claims = [
        faster(
            f"tuned-{pair['plain'].sweep.name}",
            f"tuned-{pair['BN'].sweep.name}",
            pair["plain"].target,
            text="Batch norm is faster.",
            effect=f"depth {depth}",
        )
        for depth, pair in by_depth.items()
    ]
    _, verdicts, _ = decide("by depth", list(arms), job, lambda _: claims, plan(settings.seed_count)[:1], pool)
    gains = [verdict.interval for verdict in verdicts]
    metric = pool.data.metric
    said = [
        f"Depth {d}: {figure(verdict)} to {score(by_depth[d]['plain'].target, metric)}"
        for d, verdict in zip(by_depth, verdicts, strict=True)
    ]
    line = Line(
        "batch norm over plain, both tuned",
        tuple(map(float, by_depth)),
        tuple(gain.value for gain in gains),
        tuple(gain.low for gain in gains),
        tuple(gain.high for gain in gains),
    )
    return Chart(
        title="The speed-up by depth",
        x_label="hidden layers",
        y_label=f"times fewer steps to {100 * SHARE:g} % of the tuned plain network's best",
        lines=(line,),
        note=". ".join(said)
        + ". At each depth both have the best learning rate and initialization of the same grid; the "
        "files are runs/tuned-*.json and runs/sweep-*.json.",
    )
