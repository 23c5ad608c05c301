"""Can a network with more parameters than examples fit anything, and what keeps it from doing so?

After Zhang et al. 2017, "Understanding deep learning requires rethinking generalization", section 2.
"""

from __future__ import annotations

from levelhead.records import Chart
from levelhead.studies import drawing
from levelhead.studies.claims import Claim
from levelhead.studies.lecture import Arm, Lecture
from levelhead.studies.samples import Samples
from levelhead.studies.views import RandomLabels, Rows

COUNT = 300
RANDOM, TRUE = RandomLabels(COUNT), Rows(COUNT)
ARMS = {
    "random": Arm({}, RANDOM),
    "random, weight decay": Arm({"weight_decay": 0.03}, RANDOM),
    "random, dropout": Arm({"dropout": 0.5}, RANDOM),
    "random, BN": Arm({"normalization": "batch"}, RANDOM),
    "true": Arm({}, TRUE),
    "true, narrow": Arm({"width": 3}, TRUE),
    "true, weight decay": Arm({"weight_decay": 0.03}, TRUE),
    "true, dropout": Arm({"dropout": 0.5}, TRUE),
    "true, full batch": Arm({"batch_size": COUNT}, TRUE),
}


def _fits(samples: Samples, seed: int) -> float:
    return 100 * samples.last("random", seed, "train_score")


def _wide(samples: Samples, seed: int) -> float:
    return 100 * (
        samples.last("true", seed, "validation_score") - samples.last("true, narrow", seed, "validation_score")
    )


def _explicit(samples: Samples, seed: int) -> float:
    regularized = [samples.last(f"random, {how}", seed, "train_score") for how in ("weight decay", "dropout")]
    return 100 * (sum(regularized) / 2 - samples.last("random", seed, "train_score"))


def _implicit(samples: Samples, seed: int) -> float:
    small, full = (samples.last(arm, seed, "validation_score") for arm in ("true", "true, full batch"))
    return 100 * (small - full)


def _draw(samples: Samples) -> list[Chart]:
    groups = {
        "training": lambda arm, seed: 100 * samples.last(arm, seed, "train_score"),
        "validation": lambda arm, seed: 100 * samples.last(arm, seed, "validation_score"),
    }
    return [
        drawing.bars(samples, samples.arms, "Accuracy at the end", "accuracy, %", groups),
        drawing.curves(samples, samples.arms[:5], "train_score", "Fitting the training rows", "training accuracy, %"),
    ]


STUDY = Lecture(
    name="overparameterization",
    QUESTION="Can a network with more parameters than examples fit anything, and what keeps it from doing so?",
    setting="An MLP of 2 hidden layers of 512 ReLU units (301,066 parameters) on 300 of scikit-learn's digits, with their "
    "labels or with labels drawn at random, SGD at 0.1. The narrow one has 3 units a layer: 247 parameters, fewer than rows.",
    DATA="digits",
    recipe={"depth": 2, "width": 512, "steps": 1000, "initialization": "he"},
    quick={"steps": 500},
    arms=ARMS,
    claims=(
        Claim(
            text="Overparameterized networks are capable of fitting the training data exactly, whatever it is.",
            source="lecture 004",
            effect="training accuracy on random labels",
            measure=_fits,
            threshold=99.0,
            unit="per cent",
        ),
        Claim(
            text="Having more parameters than examples makes a network generalize worse.",
            source='lecture 004 ("this should imply that the models will overfit")',
            effect="validation accuracy with true labels, 512 units a layer less 3",
            measure=_wide,
            side="below",
            unit="percentage points",
        ),
        Claim(
            text="Explicit regularization limits what the network can fit.",
            source="lecture 004",
            effect="training accuracy on random labels, mean of weight decay and dropout less without",
            measure=_explicit,
            side="below",
            unit="percentage points",
        ),
        Claim(
            text="Stochastic gradient descent regularizes implicitly.",
            source="lecture 004",
            effect="validation accuracy with true labels after the same updates, batches of 60 less the full batch",
            measure=_implicit,
            unit="percentage points",
        ),
    ),
    draw=_draw,
)
