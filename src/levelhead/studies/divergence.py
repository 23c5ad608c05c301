"""Which divergence trains a classifier better, L2 or cross-entropy (KL), and which is convex?

After lecture 000. For targets that are 0 or 1, cross-entropy and the KL divergence are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from levelhead.records import Chart
from levelhead.studies import drawing
from levelhead.studies.claims import Claim, faster, points
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from levelhead.data import Dataset
    from levelhead.training import Recipe

RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
TARGET = 0.9
#: Chords that convexity is looked for on, and how long the weights at their ends are, in deviations.
CHORDS, LENGTH = 200, 0.3


def chords(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float]:
    """Of chords between random weights of a linear softmax model, the share at whose middle a loss is above its mean.

    A convex loss is at the middle of a chord at most the mean of its ends. ``dents_l2`` is the share for the squared
    distance of the probabilities from 0 and 1, ``dents_kl`` that for cross-entropy.
    """
    if step:
        return {}
    random = torch.Generator().manual_seed(recipe.seed)
    x, y = data.train.inputs.flatten(1).double(), data.train.targets
    wanted = functional.one_hot(y, data.outputs).double()
    losses: dict[str, Callable[[Tensor], float]] = {
        "dents_l2": lambda w: float((torch.softmax(x @ w, 1) - wanted).square().sum(1).mean()),
        "dents_kl": lambda w: float(functional.cross_entropy(x @ w, y)),
    }
    found = dict.fromkeys(losses, 0.0)
    for _ in range(CHORDS):
        a, b = LENGTH * torch.randn(2, x.shape[1], data.outputs, generator=random, dtype=x.dtype)
        for name, loss in losses.items():
            found[name] += (loss((a + b) / 2) > (loss(a) + loss(b)) / 2 + 1e-12) / CHORDS
    return found


def _draw(samples: Samples) -> list[Chart]:
    arms = ["cross-entropy", "L2"]
    dents = [[100 * samples.first("linear", seed, f"dents_{name}") for seed in samples.seeds] for name in ("kl", "l2")]
    line = drawing.point_line("linear softmax model", (0, 1), dents)
    return [
        drawing.curves(samples, arms, "validation_score", "Training", "validation {metric}, %"),
        Chart(
            "Chords that show a dent", "", "chords below the loss, %", (line,), note=drawing.BARS, ticks=("KL", "L2")
        ),
    ]


STUDY = Lecture(
    name="divergence",
    QUESTION="Which divergence trains a classifier better, L2 or cross-entropy (KL), and which is convex?",
    setting="Each divergence at the best learning rate of a sweep over the same grid. Both compare the softmax of the "
    "outputs with 0 and 1: the squared error of raw outputs is no divergence of distributions. Convexity is that "
    "of a linear softmax model in its weights, along 200 chords between random weights.",
    DATA="digits",
    target=TARGET,
    recipe={"depth": 2, "steps": 400, "evaluate_every": 10, "initialization": "he"},
    quick={"steps": 200},
    arms={
        "cross-entropy": Arm({"loss": "cross_entropy"}, rates=RATES),
        "L2": Arm({"loss": "mse", "network": "levelhead.studies.networks:probabilities"}, rates=RATES),
        "linear": Arm({"depth": 0, "steps": 10}, observe=chords),
    },
    claims=(
        faster(
            "L2",
            "cross-entropy",
            TARGET,
            text="The convergence of gradient descent depends on the divergence: KL converges faster than L2.",
            source="lecture 000",
            effect="steps to 90 % {metric}, L2 over cross-entropy, each at its best learning rate",
        ),
        Claim(
            text="KL is the divergence for classification: it comes to a better {metric} than L2.",
            source='lecture 000 ("popular for networks that perform classification")',
            effect="{metric} on the test rows where validation was best, cross-entropy less L2",
            measure=points("test", "cross-entropy", "L2"),
            unit="percentage points",
        ),
        Claim(
            text="L2 is not convex.",
            source="lecture 000",
            effect="share of chords at whose middle the loss lies above the mean of its ends",
            measure=lambda samples, seed: 100 * samples.first("linear", seed, "dents_l2"),
            unit="per cent",
        ),
        Claim(
            text="KL is convex.",
            source="lecture 000",
            effect="share of chords at whose middle the loss lies above the mean of its ends",
            measure=lambda samples, seed: 100 * samples.first("linear", seed, "dents_kl"),
            side="within",
            threshold=0.5,
            unit="per cent",
        ),
    ),
    draw=_draw,
    notes=(
        "Changed after a first look: L2 was the squared error of the raw outputs, divided by the number of classes, "
        "and is now that of their softmax.",
    ),
)
