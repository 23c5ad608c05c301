"""Can a network with more parameters than examples fit anything, and what keeps it from doing so?

After Zhang et al. 2017, "Understanding deep learning requires rethinking generalization", section 2.
"""

from __future__ import annotations

from levelhead.studies import drawing
from levelhead.studies.claims import Claim, points
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples
from levelhead.studies.views import RandomLabels, Rows

COUNT = 300
RANDOM, FEW = RandomLabels(COUNT), Rows(COUNT)
ARMS = {
    "random": Arm({}, RANDOM),
    "random, weight decay": Arm({"weight_decay": 0.03}, RANDOM),
    "random, dropout": Arm({"dropout": 0.5}, RANDOM),
    "random, BN": Arm({"normalization": "batch"}, RANDOM),
    "true": Arm(),
    "true, narrow": Arm({"width": 12}),
    "few": Arm({}, FEW),
    "few, weight decay": Arm({"weight_decay": 0.03}, FEW),
    "few, dropout": Arm({"dropout": 0.5}, FEW),
    "few, full batch": Arm({"batch_size": COUNT}, FEW),
}


def _fits(samples: Samples, seed: int) -> float:
    return 100 * samples.last("random", seed, "train_score")


def _explicit(samples: Samples, seed: int) -> tuple[float, float]:
    regularized = [samples.last(f"random, {how}", seed, "train_score") for how in ("weight decay", "dropout")]
    return 100 * sum(regularized) / 2, 100 * samples.last("random", seed, "train_score")


STUDY = Lecture(
    name="overparameterization",
    QUESTION="Can a network with more parameters than examples fit anything, and what keeps it from doing so?",
    setting="256 units a layer (of the digits, 85,002 parameters): on 300 rows with labels drawn at random, on 300 "
    "with their own (few), and on all (true). The narrow one has 12 units a layer (1,066 parameters for 1,079 digits).",
    DATA="digits",
    recipe={"depth": 2, "width": 256, "steps": 800, "initialization": "he"},
    quick={"steps": 400},
    quick_arms=tuple(arm for arm in ARMS if arm not in ("few, weight decay", "few, dropout")),
    arms=ARMS,
    claims=(
        Claim(
            text="Overparameterized networks are capable of fitting the training data exactly, whatever it is.",
            source="lecture 004",
            effect="training {metric} on random labels",
            measure=_fits,
            threshold=99.0,
            unit="per cent",
        ),
        Claim(
            text="Having more parameters than examples makes a network generalize worse.",
            source='lecture 004 ("this should imply that the models will overfit")',
            effect="validation {metric}, 256 units a layer less 12",
            measure=points("last", "true", "true, narrow", "validation_score"),
            side="below",
            unit="percentage points",
        ),
        Claim(
            text="Explicit regularization limits what the network can fit.",
            source="lecture 004",
            effect="training {metric} on random labels, mean of weight decay and dropout less without",
            measure=_explicit,
            side="below",
            unit="percentage points",
        ),
        Claim(
            text="Stochastic gradient descent regularizes implicitly.",
            source="lecture 004",
            effect="validation {metric} of 300 rows after the same updates, batches of 60 less the full batch",
            measure=points("last", "few", "few, full batch", "validation_score"),
            unit="percentage points",
        ),
    ),
    draw=drawing.each(
        drawing.at_the_end,
        drawing.over_training(
            *list(ARMS)[:5], name="train_score", title="Fitting the training rows", label="training {metric}, %"
        ),
    ),
    notes=(
        "Changed after a first look: the narrow network had 3 units a layer and 300 rows, and hardly trained, which "
        "says nothing of its generalization; now both have all rows, and it has 12 units.",
    ),
)
