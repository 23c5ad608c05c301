"""Does normalizing the inputs make the loss rounder and training faster?

After LeCun et al. 1998, "Efficient backprop", sections 4.3 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from levelhead.lessons import Contours, Panel
from levelhead.records import Chart
from levelhead.studies import drawing
from levelhead.studies.claims import Claim, faster, values
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.learning_rate import IN_DECADES, by_rate, chart, highest
from levelhead.studies.samples import Samples
from levelhead.studies.views import Inputs

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training import Recipe

KINDS = ("raw", "centred", "standardized", "whitened")
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
TARGET = 0.9
#: Two a decade, for the highest one that still trains.
SCALE = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
GRID = 21


def bowl(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float | Sequence[float]]:
    """Of a linear softmax model: the condition number of the loss's Hessian, and the loss in a plane of two directions.

    The Hessian is made whole and its eigenvalues are exact. One weight vector added to all classes changes nothing, so
    that many eigenvalues are 0 whatever the data are, and are left out. The plane lies through the weights, along
    the steepest direction and that in the middle of the spectrum; it is measured at the end of seed 0 alone.
    """
    if step not in (0, recipe.steps) or recipe.depth:
        return {}
    x = torch.cat([data.train.inputs.flatten(1), torch.ones(len(data.train), 1)], 1).double()
    linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
    w = torch.cat([linear.weight, linear.bias[:, None]], 1).detach().double()
    p = torch.softmax(x @ w.T, 1)
    classes, size = w.shape
    hessian = torch.empty(classes, size, classes, size, dtype=x.dtype)
    for a in range(classes):
        for b in range(classes):  # of softmax and cross-entropy: E[p_a (1{a=b} - p_b) x xᵀ]
            hessian[a, :, b] = (x * (p[:, a] * (float(a == b) - p[:, b]))[:, None]).T @ x / len(x)
    values, vectors = torch.linalg.eigh(hessian.reshape(classes * size, -1))
    values, vectors = values[size:], vectors[:, size:]
    found: dict[str, float | Sequence[float]] = {"condition": float(values[-1] / values[0])}
    if not step or recipe.seed:
        return found
    middle = len(values) // 2
    scale = 3 / math.sqrt(math.sqrt(float(values[-1] * values[middle])))
    grid = torch.linspace(-scale, scale, GRID, dtype=x.dtype)
    flat, y = w.flatten(), data.train.targets
    surface = [
        float(functional.cross_entropy(x @ (flat + a * vectors[:, -1] + b * vectors[:, middle]).view_as(w).T, y))
        for a in grid
        for b in grid
    ]
    return found | {"surface": surface, "grid": grid.tolist()}


def _draw(samples: Samples) -> list[Chart | Contours]:
    panels = []
    for kind in KINDS:
        run = samples[f"linear {kind}", samples.seeds[0]]
        if "surface" in run.arrays:
            z, grid = run.arrays["surface"], run.arrays["grid"]
            n = len(grid)
            panels.append(Panel(kind, grid, grid, tuple(tuple(z[i * n : (i + 1) * n]) for i in range(n))))
    return [
        drawing.curves(samples, [*KINDS, "every layer"], "validation_score", "Training", "validation {metric}, %"),
        chart("raw", "standardized", rates=SCALE)(samples),
        drawing.bars(
            samples,
            list(KINDS),
            "Condition number of the loss",
            "largest over smallest eigenvalue",
            {"linear softmax model": lambda kind, seed: samples.first(f"linear {kind}", seed, "condition")},
            log_y=True,
            note="Before the first step; exact eigenvalues.",
        ),
        Contours(
            "The loss around the trained weights of a linear model",
            "along the middle of the spectrum",
            "along the steepest direction",
            tuple(panels),
            "Lines of equal loss, both directions in the same unit. One run each.",
        ),
    ]


STUDY = Lecture(
    name="input-normalization",
    QUESTION="Does normalizing the inputs make the loss rounder and training faster?",
    setting="Pixels of the digits lie between 0 and 1; each arm has the best learning rate of a sweep; steps are "
    "counted to 90 % {metric}. A learning rate is good where the best {metric} is 90 % of the best of all rates. "
    "The condition number is that of a linear softmax model on the same inputs, where it is exact. Features "
    "that never vary are left out of all arms.",
    DATA="digits",
    STANDARDIZE=False,
    target=TARGET,
    recipe={"depth": 2, "steps": 400, "evaluate_every": 10},
    quick={"steps": 200},
    arms={kind: Arm({}, Inputs(kind), rates=RATES) for kind in KINDS}  # type: ignore[arg-type]
    | {"every layer": Arm({"normalization": "batch"}, Inputs("standardized"), rates=RATES)}
    | by_rate(SCALE, raw=Arm({}, Inputs("raw")), standardized=Arm({}, Inputs("standardized")))
    | {f"linear {kind}": Arm({"depth": 0, "learning_rate": 0.03}, Inputs(kind), bowl) for kind in KINDS},  # type: ignore[arg-type]
    claims=(
        faster(
            "raw",
            "standardized",
            TARGET,
            text="If the inputs are normalized before training, training gets faster.",
            source="lectures 001, 002, 004",
            effect="steps to 90 % {metric}, raw over standardized, each at its best learning rate",
        ),
        Claim(
            text="Normalized inputs make the contours of the cost more symmetrical and circular.",
            source="lecture 002",
            effect="condition number of the loss of a linear model, raw over standardized",
            measure=values("first", "linear raw", "linear standardized", "condition"),
            threshold=1.0,
            unit="times",
        ),
        Claim(
            text="With normalized inputs a larger learning rate can be taken.",
            source='lecture 002 ("a larger learning rate can be adopted")',
            effect="highest good learning rate, standardized over raw",
            measure=lambda samples, seed: highest(samples, seed, "standardized", "raw", rates=SCALE),
            **IN_DECADES,
        ),
        faster(
            "standardized",
            "every layer",
            TARGET,
            text="To normalize the inputs alone is not enough: the inputs of every layer must be.",
            source="lecture 002",
            effect="steps to 90 % {metric}, standardized inputs over batch norm in every layer too, each at its best "
            "learning rate",
        ),
        faster(
            "standardized",
            "whitened",
            TARGET,
            text="Whitening the inputs makes training faster than standardizing them.",
            source="lecture 002",
            effect="steps to 90 % {metric}, standardized over whitened, each at its best learning rate",
        ),
    ),
    draw=_draw,
    notes=(
        "Changed after a first look: whitened inputs were compared with raw ones, and are now with standardized ones.",
    ),
)
