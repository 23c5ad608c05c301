"""Does batch normalization reduce internal covariate shift?

Two things are called so. The lectures mean that the distribution of a layer's inputs moves while the network learns;
after Santurkar et al. 2018, section 2, it is how much the layers below change a layer's gradient by their own update.
"""

from __future__ import annotations

import math
import statistics

from levelhead.records import Chart
from levelhead.studies import drawing, observers
from levelhead.studies.claims import Claim, values
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples

DEPTH = 5


def _moves(samples: Samples, arm: str, seed: int, layer: int = DEPTH) -> float:
    """How far a unit's mean input moves from one evaluation to the next, in its own deviations; mean over units."""
    moves = []
    for unit in range(observers.UNITS):
        means, spreads = (samples.curve(arm, seed, f"{name}/{layer}/{unit}").values for name in ("mean", "spread"))
        pairs = zip(means, means[1:], spreads, strict=False)
        moves += [abs(after - before) / spread for before, after, spread in pairs if spread > 0]
    return statistics.fmean(moves) if moves else math.nan


def _draw(samples: Samples) -> list[Chart]:
    return [
        drawing.curves(
            samples,
            samples.arms,
            "shift",
            "Change of a layer's gradient by the update of the layers below",
            "change relative to the gradient",
            log_y=True,
            note="Mean over layers; one plain gradient step on 250 fixed rows.",
        ),
        drawing.curves(
            samples,
            samples.arms,
            f"mean/{DEPTH}/0",
            "The mean input of one unit of the last hidden layer",
            "mean over 250 rows",
        ),
        drawing.points(
            "Distance from the unit Gaussian by layer",
            "hidden layer",
            "KL divergence of a unit's input, mean over training, nats",
            {arm: samples.by_layer(arm, "geometric", "deviation", DEPTH) for arm in samples.arms},
            log_y=True,
        ),
    ]


STUDY = Lecture(
    name="covariate-shift",
    QUESTION="Does batch normalization reduce internal covariate shift?",
    setting="With and without batch norm.",
    DATA="digits",
    recipe={"depth": DEPTH, "learning_rate": 0.1, "steps": 600, "initialization": "he"},
    quick={"steps": 200},
    arms={"plain": Arm(), "BN": Arm({"normalization": "batch"})},
    observe=observers.drift,
    claims=(
        Claim(
            text="Batch normalization fixes the distribution of a layer's inputs while the network learns.",
            source="lectures 000, 002, 004",
            effect="move of a unit's mean input between evaluations in its own deviations, with batch norm over "
            "without",
            measure=lambda samples, seed: (_moves(samples, "BN", seed), _moves(samples, "plain", seed)),
            side="below",
            threshold=1.0,
            unit="times",
        ),
        Claim(
            text="The further up, the more the inputs of a layer move, without batch norm.",
            source="lecture 002 (the distribution depends on the parameters of all the preceding layers)",
            effect="move of a unit's mean input between evaluations in its own deviations, last hidden layer over "
            "first",
            measure=lambda samples, seed: (_moves(samples, "plain", seed), _moves(samples, "plain", seed, 1)),
            threshold=1.0,
            unit="times",
        ),
        Claim(
            text="The further up, the more the inputs of a layer deviate from the unit Gaussian, without batch norm.",
            source='lecture 002 ("the extent of deviation increases as the network becomes deeper")',
            effect="KL divergence of a unit's input from N(0, 1), geometric mean over training, last hidden layer over "
            "first",
            measure=lambda samples, seed: (
                samples.geometric("plain", seed, f"deviation/{DEPTH}"),
                samples.geometric("plain", seed, "deviation/1"),
            ),
            threshold=1.0,
            unit="times",
        ),
        Claim(
            text="Batch normalization reduces the change of a layer's gradient that the update of the layers below "
            "causes.",
            source='lectures 001, 002 ("the problem of coordinating updates across many layers")',
            effect="relative change of the gradient, geometric mean over training, with batch norm over without",
            measure=values("geometric", "BN", "plain", "shift", 1),
            side="below",
            threshold=1.0,
            unit="times",
        ),
    ),
    draw=_draw,
    notes=("Santurkar et al. 2018 find that the change of gradients is not smaller with batch normalization.",),
)
