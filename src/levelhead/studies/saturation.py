"""Does batch normalization keep sigmoids out of saturation, and deep networks of them trainable?

After Ioffe & Szegedy 2015, sections 1 and 4.2.1 (BN-x5-Sigmoid).
"""

from __future__ import annotations

from levelhead.studies import drawing, observers
from levelhead.studies.claims import Claim, points
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples

DEPTHS = (3, 5, 8)
NORMS = {"plain": "none", "BN": "batch"}


def _arm(norm: str, depth: int) -> str:
    return f"{norm} depth{depth}"


def _share(samples: Samples, seed: int) -> tuple[float, float]:
    plain, normed = (
        100 * sum(samples.mean(_arm(norm, depth), seed, "saturated") for depth in DEPTHS) / len(DEPTHS)
        for norm in NORMS
    )
    return normed, plain


STUDY = Lecture(
    name="saturation",
    QUESTION="Does batch normalization keep sigmoid units out of saturation?",
    setting="MLPs of 3, 5 and 8 hidden layers, Xavier initialization. A unit is saturated on a row where its output "
    "is below 0.05 or above 0.95.",
    DATA="digits",
    recipe={"activation": "sigmoid", "initialization": "xavier", "width": 50, "learning_rate": 0.5, "steps": 600},
    quick={"steps": 200},
    arms={_arm(norm, d): Arm({"normalization": NORMS[norm], "depth": d}) for norm in NORMS for d in DEPTHS},
    observe=observers.saturation,
    claims=(
        Claim(
            text="Batch normalization prevents units from entering the saturated regime.",
            source="lecture 002",
            effect="saturated share of outputs, mean over training and depths, with batch norm less without",
            measure=_share,
            side="below",
            unit="percentage points",
            delta=0.1,
        ),
        Claim(
            text="Batch normalization lets deep networks with saturating nonlinearities train.",
            source="lectures 001, 002",
            effect="best validation {metric} at 8 layers, with batch norm less without",
            measure=points("best", _arm("BN", DEPTHS[-1]), _arm("plain", DEPTHS[-1])),
            unit="percentage points",
        ),
    ),
    draw=drawing.each(
        drawing.over_training(
            name="saturated", title="Saturated units over training", label="outputs beyond 0.05 and 0.95, %"
        ),
        drawing.by_setting(
            "What each depth comes to",
            "hidden layers",
            "best validation {metric}, %",
            {norm: {depth: _arm(norm, depth) for depth in DEPTHS} for norm in NORMS},
            "best",
        ),
    ),
)
