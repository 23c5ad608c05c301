"""What do L1, L2 and elastic-net penalties do to weights, fit and response?

After lecture 000 (the steepness of the response, and its smoothness by depth) and Tibshirani 1996 for the zeros of L1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from levelhead.records import Chart, Line
from levelhead.studies import drawing, observers
from levelhead.studies.claims import Claim
from levelhead.studies.lecture import Arm, Lecture
from levelhead.studies.samples import Samples
from levelhead.studies.views import Wave

#: By penalty, from weak to strong; the claims are judged at the middle one.
STRENGTHS = {"L2": (0.001, 0.01, 0.1), "L1": (0.0003, 0.001, 0.003), "elastic": (0.0006, 0.002, 0.006)}
FIELDS = {"L2": "l2", "L1": "l1", "elastic": "elastic_net"}


def _arm(penalty: str, strength: float) -> str:
    return f"{penalty} {strength:g}"


MIDDLE = {penalty: _arm(penalty, strengths[1]) for penalty, strengths in STRENGTHS.items()}
SHAPES: dict[str, dict[str, Any]] = {"shallow": {"depth": 1, "width": 400}, "deep": {"depth": 4, "width": 19}}


def _gap(samples: Samples, arm: str, seed: int) -> float:
    return samples.last(arm, seed, "validation_loss") - samples.last(arm, seed, "train_loss")


def _less_gap(penalty: str) -> Callable[[Samples, int], float]:
    return lambda samples, seed: _gap(samples, MIDDLE[penalty], seed) - _gap(samples, "none", seed)


def _ratio(name: str, arm: str, other: str) -> Callable[[Samples, int], float]:
    return lambda samples, seed: samples.last(arm, seed, name) / samples.last(other, seed, name)


def _zeros(samples: Samples, seed: int) -> float:
    return 100 * (samples.last(MIDDLE["L1"], seed, "zeros") - samples.last(MIDDLE["L2"], seed, "zeros"))


def _draw(samples: Samples) -> list[Chart]:
    x = tuple(-1 + 0.02 * i for i in range(101))
    shown = ["none", *MIDDLE.values()]
    lines = [Line(arm, x, samples[arm, samples.seeds[0]].arrays.get("response", ())) for arm in shown]
    charts = [
        Chart(
            "The fitted response", "x", "output", tuple(line for line in lines if line.y), band=True, note="One seed."
        )
    ]
    for name, title, label, factor in (
        ("validation_loss", "Validation loss by strength", "last validation loss", 1.0),
        ("weight_norm", "Weights by strength", "norm of all weights", 1.0),
        ("zeros", "Zeros by strength", "weights that are exactly 0, %", 100.0),
    ):
        groups = {
            penalty: {s: [factor * v for v in samples.every(_arm(penalty, s), "last", name)] for s in strengths}
            for penalty, strengths in STRENGTHS.items()
        }
        without = samples.every("none", "last", name)
        note = f"Without a penalty: {factor * sum(without) / len(without):.3g}." if without else ""
        charts.append(drawing.points(title, "strength λ", label, groups, log_x=True, note=note))
    return charts


STUDY = Lecture(
    name="weight-penalties",
    QUESTION="What do L1, L2 and elastic-net penalties do to weights, fit and response?",
    setting="An MLP of 2 hidden layers of 100 tanh units on 20 points of a sine with noise of deviation 0.4, drawn "
    "anew for each seed; SGD with momentum over all points at once, penalties decoupled from the loss (a shrinking "
    "factor for L2, a proximal step for L1). The claims are judged at the middle of three strengths. Shallow and "
    "deep have as many parameters: 1 layer of 400 units, 4 of 19.",
    DATA="digits",
    view=Wave(20, 0.4),
    observe=observers.size,
    recipe={
        "depth": 2,
        "activation": "tanh",
        "initialization": "he",
        "learning_rate": 0.02,
        "momentum": 0.9,
        "batch_size": 20,
        "penalty_form": "decoupled",
        "steps": 2000,
    },
    quick={"steps": 500},
    quick_arms=("none", *MIDDLE.values(), *(_arm("L2", s) for s in (0.001, 0.1)), *SHAPES),
    arms={"none": Arm()}
    | {
        _arm(penalty, strength): Arm({"penalty": FIELDS[penalty], "penalty_strength": strength})
        for penalty, strengths in STRENGTHS.items()
        for strength in strengths
    }
    | {name: Arm(fields) for name, fields in SHAPES.items()},
    claims=(
        *(
            Claim(
                text=f"{name} regularization prevents overfitting.",
                source="lectures 001, 003, 004",
                effect="validation loss less training loss at the end, with the penalty less without",
                measure=_less_gap(penalty),
                side="below",
                unit="squared deviations",
            )
            for penalty, name in (("L2", "L2"), ("L1", "L1"), ("elastic", "Elastic-net"))
        ),
        Claim(
            text="Increasing λ shrinks the weights more.",
            source="lecture 000",
            effect="norm of all weights, λ = 0.1 over λ = 0.001 (L2)",
            measure=_ratio("weight_norm", _arm("L2", 0.1), _arm("L2", 0.001)),
            side="below",
            threshold=1.0,
            unit="times",
            ratio=True,
        ),
        Claim(
            text="The larger the weights, the steeper the response: L2 regularization makes it less steep.",
            source="lecture 000",
            effect="largest slope of the response, L2 over no penalty",
            measure=_ratio("steepness", MIDDLE["L2"], "none"),
            side="below",
            threshold=1.0,
            unit="times",
            ratio=True,
        ),
        Claim(
            text="L1 makes weights exactly zero, and L2 does not.",
            source='lecture 003 ("weights close to zero")',
            effect="share of weights that are exactly 0, L1 less L2",
            measure=_zeros,
            unit="percentage points",
        ),
        Claim(
            text="Deeper networks impose more smoothness than shallow ones.",
            source="lecture 000",
            effect="mean absolute second derivative of the response, 4 layers over 1, as many parameters",
            measure=_ratio("roughness", "deep", "shallow"),
            side="below",
            threshold=1.0,
            unit="times",
            ratio=True,
        ),
    ),
    draw=_draw,
)
