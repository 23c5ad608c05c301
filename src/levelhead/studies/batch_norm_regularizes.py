"""Does batch normalization regularize, and does it make dropout needless?

After Ioffe & Szegedy 2015, section 3.4 ("Batch Normalization regularizes the model").
"""

from __future__ import annotations

from typing import Any

from levelhead.studies import drawing
from levelhead.studies.claims import Claim, gain, points
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples
from levelhead.studies.views import Outliers, Rows

ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.5},
    "BN": {"normalization": "batch"},
    "BN + dropout": {"normalization": "batch", "dropout": 0.5},
}
COUNT = 300
OUTLIERS = Outliers(COUNT, 0.05, 10)


#: The arms that are run with outliers too.
WITH = ("BN", "plain")
_with_norm = points("last", "BN + dropout", "BN", "validation_score")
_without = points("last", "dropout", "plain", "validation_score")


def _need(samples: Samples, seed: int) -> tuple[float, float]:
    return gain(_with_norm(samples, seed)), gain(_without(samples, seed))


def _cost(samples: Samples, seed: int) -> tuple[float, float]:
    cost, of_plain = (gain(points("last", arm, f"{arm}, outliers", "validation_score")(samples, seed)) for arm in WITH)
    return cost, of_plain


STUDY = Lecture(
    name="batch-norm-regularizes",
    QUESTION="Does batch normalization regularize, and does it make dropout needless?",
    setting="With batch norm or not and with a dropout of 0.5 or not, all for the same steps, long after the training "
    "rows are learned. Outliers are one in 20 of the training rows, their inputs 10 times as large.",
    view=Rows(COUNT),
    recipe={"depth": 3, "width": 200, "steps": 800, "initialization": "he"},
    quick={"steps": 300},
    arms={name: Arm(fields) for name, fields in ARMS.items()}
    | {f"{name}, outliers": Arm(ARMS[name], OUTLIERS) for name in WITH},
    claims=(
        Claim(
            text="Batch normalization acts as a regularizer.",
            source="lectures 002, 003, 004",
            effect="validation {metric} at the end, batch norm less plain",
            measure=points("last", "BN", "plain", "validation_score"),
            unit="percentage points",
        ),
        Claim(
            text="Batch normalization reduces the need for dropout.",
            source="lecture 002",
            effect="what dropout gains in validation {metric}, with batch norm less without",
            measure=_need,
            side="below",
            unit="percentage points",
        ),
        Claim(
            text="Batch normalization eliminates the need for dropout.",
            source="lecture 004",
            effect="what dropout gains in validation {metric} with batch norm",
            measure=_with_norm,
            side="below",
            threshold=0.5,
            unit="percentage points",
        ),
        Claim(
            text="Batch normalization keeps the gradient from distraction by outliers.",
            source="lecture 002",
            effect="what outliers among the training rows cost in validation {metric}, batch norm less plain",
            measure=_cost,
            side="below",
            unit="percentage points",
        ),
    ),
    draw=drawing.each(
        drawing.at_the_end,
        drawing.over_training(
            *ARMS, name="validation_loss", title="Validation loss over training", label="validation loss"
        ),
    ),
)
