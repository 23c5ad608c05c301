"""Does batch normalization do most for convolutional networks, and do very different designs come to the same?

After lecture 002 ("a dramatic effect on optimization performance, especially for convolutional networks") and the
summary of lecture 004.
"""

from __future__ import annotations

from typing import Any

from levelhead.studies import drawing
from levelhead.studies.claims import Claim, faster
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples

RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
TARGET = 0.9
CONVNET: dict[str, Any] = {"network": "convnet", "width": 8}
DESIGNS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "mlp, BN": {"normalization": "batch"},
    "convnet": CONVNET,
    "convnet, BN": {**CONVNET, "normalization": "batch"},
    "sigmoids, BN": {"activation": "sigmoid", "normalization": "batch"},
    "residual, LN": {"network": "levelhead.studies.networks:pre_norm", "normalization": "layer"},
}


def _gain(samples: Samples, kind: str, seed: int) -> float:
    return samples.steps(kind, seed, TARGET) / samples.steps(f"{kind}, BN", seed, TARGET)


def _range(samples: Samples, seed: int) -> float:
    scores = [samples.test(name, seed) for name in DESIGNS]
    return 100 * (max(scores) - min(scores))


STUDY = Lecture(
    name="architecture",
    QUESTION="Does batch normalization do most for convolutional networks, and do very different designs come to the "
    "same?",
    setting="MLPs, convnets of 8 to 32 channels, sigmoids with batch norm and residual blocks with layer norm, all of "
    "4 layers or blocks, each at the best learning rate of a sweep; steps are counted to 90 % {metric}.",
    DATA="digits",
    target=TARGET,
    recipe={"depth": 4, "width": 50, "steps": 400, "evaluate_every": 10, "initialization": "he"},
    quick={"steps": 200},
    arms={name: Arm(fields, rates=RATES) for name, fields in DESIGNS.items()},
    claims=(
        faster(
            "convnet",
            "convnet, BN",
            TARGET,
            text="Batch normalization speeds up the training of convolutional networks.",
            source="lecture 002",
            effect="steps to 90 % {metric}, convnet over convnet with batch norm, each at its best learning rate",
        ),
        Claim(
            text="Batch normalization has a dramatic effect especially for convolutional networks.",
            source="lecture 002",
            effect="times fewer steps to 90 % {metric} with batch norm, convnet over MLP",
            measure=lambda samples, seed: (_gain(samples, "convnet", seed), _gain(samples, "mlp", seed)),
            threshold=1.0,
            unit="times",
        ),
        Claim(
            text="Wildly different designs come to similarly good results.",
            source="lecture 004",
            effect="{metric} on the test rows where validation was best, best less worst of six designs, each at its "
            "best learning rate",
            measure=_range,
            side="below",
            threshold=2.0,
            unit="percentage points",
        ),
    ),
    draw=drawing.each(
        drawing.over_training(),
        lambda samples: drawing.bars(
            samples,
            samples.arms,
            "What each design comes to",
            "{metric}, %",
            {"test rows, where validation was best": lambda arm, seed: 100 * samples.test(arm, seed)},
        ),
    ),
)
