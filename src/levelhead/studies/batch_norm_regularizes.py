"""Does batch normalization regularize, and does it make dropout needless?

After Ioffe & Szegedy 2015, section 3.4 ("Batch Normalization regularizes the model").
"""

from __future__ import annotations

from levelhead.records import Chart
from levelhead.studies import drawing
from levelhead.studies.claims import Claim
from levelhead.studies.lecture import Arm, Lecture
from levelhead.studies.samples import Samples
from levelhead.studies.views import Rows

ARMS = {
    "plain": {},
    "dropout": {"dropout": 0.5},
    "BN": {"normalization": "batch"},
    "BN + dropout": {"normalization": "batch", "dropout": 0.5},
}


def _score(samples: Samples, arm: str, seed: int) -> float:
    return 100 * samples.last(arm, seed, "validation_score")


def _alone(samples: Samples, seed: int) -> float:
    return _score(samples, "BN", seed) - _score(samples, "plain", seed)


def _with_norm(samples: Samples, seed: int) -> float:
    return _score(samples, "BN + dropout", seed) - _score(samples, "BN", seed)


def _need(samples: Samples, seed: int) -> float:
    return _with_norm(samples, seed) - (_score(samples, "dropout", seed) - _score(samples, "plain", seed))


def _draw(samples: Samples) -> list[Chart]:
    groups = {
        "training": lambda arm, seed: 100 * samples.last(arm, seed, "train_score"),
        "validation": lambda arm, seed: _score(samples, arm, seed),
    }
    return [
        drawing.bars(samples, list(ARMS), "Accuracy at the end", "accuracy, %", groups),
        drawing.curves(samples, list(ARMS), "validation_loss", "Validation loss over training", "validation loss"),
    ]


STUDY = Lecture(
    name="batch-norm-regularizes",
    QUESTION="Does batch normalization regularize, and does it make dropout needless?",
    setting="An MLP of 3 hidden layers of 200 ReLU units on 300 MNIST digits, drawn anew for each seed, SGD at 0.1, with batch "
    "norm or not and with a dropout of 0.5 or not, all for the same steps, long after the training rows are learned.",
    view=Rows(300),
    recipe={"depth": 3, "width": 200, "steps": 800, "initialization": "he"},
    quick={"steps": 300},
    arms={name: Arm(fields) for name, fields in ARMS.items()},
    claims=(
        Claim(
            text="Batch normalization acts as a regularizer.",
            source="lectures 002, 003, 004",
            effect="validation accuracy at the end, batch norm less plain",
            measure=_alone,
            unit="percentage points",
        ),
        Claim(
            text="Batch normalization reduces the need for dropout.",
            source="lecture 002",
            effect="what dropout gains in validation accuracy, with batch norm less without",
            measure=_need,
            side="below",
            unit="percentage points",
        ),
        Claim(
            text="Batch normalization eliminates the need for dropout.",
            source="lecture 004",
            effect="what dropout gains in validation accuracy with batch norm",
            measure=_with_norm,
            side="below",
            threshold=0.5,
            unit="percentage points",
        ),
    ),
    draw=_draw,
)
