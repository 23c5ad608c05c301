"""What do L1, L2 and elastic-net penalties do to weights, fit and response?

After lecture 000 (the steepness of the response, and its smoothness by depth) and Tibshirani 1996 for the zeros of L1.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

from levelhead.records import Chart, Line
from levelhead.studies import drawing, observers
from levelhead.studies.claims import Claim, points, values
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples
from levelhead.studies.views import Rows, Wave

#: By penalty, from weak to strong; the claims are judged at the middle one.
STRENGTHS = {"L2": (0.001, 0.01, 0.1), "L1": (0.0003, 0.001, 0.003), "elastic": (0.0006, 0.002, 0.006)}
FIELDS = {"L2": "l2", "L1": "l1", "elastic": "elastic_net"}


def _arm(penalty: str, strength: float) -> str:
    return f"{penalty} {strength:g}"


BY_STRENGTH = {
    penalty: {strength: _arm(penalty, strength) for strength in strengths} for penalty, strengths in STRENGTHS.items()
}
MIDDLE = {penalty: _arm(penalty, strengths[1]) for penalty, strengths in STRENGTHS.items()}
SHAPES: dict[str, dict[str, Any]] = {
    "shallow": {"depth": 1, "width": 400, "learning_rate": 0.005},
    "deep": {"depth": 4, "width": 19, "learning_rate": 0.005},
}
#: The lecture's loss of a classifier: the multi-class hinge plus λR(W).
HINGE: dict[str, dict[str, Any]] = {"hinge": {}} | {
    f"hinge {penalty}": {"penalty": FIELDS[penalty], "penalty_strength": STRENGTHS[penalty][1]} for penalty in FIELDS
}


def _proxy(samples: Samples, seed: int) -> float:
    """Spearman's correlation, over no penalty and all penalties, of the weights' norm and the response's roughness."""
    arms = [arm for arm in samples.arms if arm == "none" or arm.split()[0] in FIELDS]
    found = [tuple(samples.last(arm, seed, name) for arm in arms) for name in ("weight_norm", "roughness")]
    ranks = [sorted(range(len(arms)), key=of.__getitem__) for of in found]
    places = [[order.index(i) for i in range(len(arms))] for order in ranks]
    return statistics.correlation(*places) if all(map(math.isfinite, [*found[0], *found[1]])) else math.nan


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
        without = samples.every("none", "last", name)
        note = f"Without a penalty: {factor * sum(without) / len(without):.3g}." if without else ""
        how: dict[str, Any] = {"scale": factor, "log_x": True, "note": note}
        charts.append(drawing.by_setting(title, "strength λ", label, BY_STRENGTH, "last", name, **how)(samples))
    return charts


STUDY = Lecture(
    name="weight-penalties",
    QUESTION="What do L1, L2 and elastic-net penalties do to weights, fit and response?",
    setting="20 points of a sine with noise of deviation 0.4, all of them in each step; penalties decoupled from "
    "the loss (a shrinking factor for L2, a proximal step for L1). The claims are judged at the middle of three "
    "strengths. Shallow and deep have as many parameters: 1 layer of 400 units, 4 of 19. The hinge is that of 100 "
    "rows of the data.",
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
    quick_arms=("none", *MIDDLE.values(), *(_arm("L2", s) for s in (0.001, 0.1)), *SHAPES, *HINGE),
    arms={"none": Arm()}
    | {
        name: Arm({"penalty": FIELDS[penalty], "penalty_strength": strength})
        for penalty, names in BY_STRENGTH.items()
        for strength, name in names.items()
    }
    | {name: Arm(fields) for name, fields in SHAPES.items()}
    | {name: Arm({"loss": "hinge", **fields}, Rows(100)) for name, fields in HINGE.items()},
    claims=(
        *(
            Claim(
                text=f"{name} regularization prevents overfitting.",
                source="lectures 001, 003, 004",
                effect="validation loss at the end, with the penalty less without",
                measure=values("last", MIDDLE[penalty], "none", "validation_loss"),
                side="below",
                unit="squared deviations",
                delta=0.01,
            )
            for penalty, name in (("L2", "L2"), ("L1", "L1"), ("elastic", "Elastic-net"))
        ),
        *(
            Claim(
                text=f"The hinge loss plus λR(W) generalizes better than the hinge alone, with R the {name} penalty.",
                source="lecture 001",
                effect="validation {metric} at the end, with the penalty less without",
                measure=points("last", f"hinge {penalty}", "hinge", "validation_score"),
                unit="percentage points",
            )
            for penalty, name in (("L2", "L2"), ("L1", "L1"), ("elastic", "elastic-net"))
        ),
        Claim(
            text="The magnitude of the weights is a reasonable proxy for complexity.",
            source="lecture 004",
            effect="rank correlation, over no penalty and all penalties, of the norm of the weights and the mean "
            "absolute second derivative of the response",
            measure=_proxy,
            threshold=0.5,
        ),
        Claim(
            text="Increasing λ shrinks the weights more.",
            source="lecture 000",
            effect="norm of all weights, λ = 0.1 over λ = 0.001 (L2)",
            measure=values("last", _arm("L2", 0.1), _arm("L2", 0.001), "weight_norm"),
            side="below",
            threshold=1.0,
            unit="times",
        ),
        Claim(
            text="The larger the weights, the steeper the response: L2 regularization makes it less steep.",
            source="lecture 000",
            effect="largest slope of the response, L2 over no penalty",
            measure=values("last", MIDDLE["L2"], "none", "steepness"),
            side="below",
            threshold=1.0,
            unit="times",
        ),
        Claim(
            text="L1 makes weights exactly zero, and L2 does not.",
            source='lecture 003 ("weights close to zero")',
            effect="share of weights that are exactly 0, L1 less L2",
            measure=points("last", MIDDLE["L1"], MIDDLE["L2"], "zeros"),
            unit="percentage points",
        ),
        Claim(
            text="Deeper networks impose more smoothness than shallow ones.",
            source="lecture 000",
            effect="mean absolute second derivative of the response, 4 layers over 1, as many parameters",
            measure=values("last", "deep", "shallow", "roughness"),
            side="below",
            threshold=1.0,
            unit="times",
        ),
    ),
    draw=_draw,
    notes=(
        "Changed after a first look: shallow and deep have the learning rate 0.005, not 0.02, at which the shallow "
        "network diverged with most seeds.",
    ),
)
