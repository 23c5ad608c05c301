"""Which statistics should batch normalization evaluate with: a moving average, or those of all training batches?

After lecture 000 (the average over all training minibatches, with B/(B-1)), lectures 001 and 004 (the moving average),
and Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from levelhead.nn import recalibrate
from levelhead.records import Chart
from levelhead.studies import drawing
from levelhead.studies.claims import Claim
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples
from levelhead.training.objectives import validation_score

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training import Recipe

SIZES = (8, 32)
JUDGED = f"batch{SIZES[-1]}"
LABELS = {"moving": "moving average", "averaged": "average of batches", "pooled": "pooled"}


def compare(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float]:
    """Validation score with each kind of statistics, and each kind's distance from the population's.

    The population's are those of all training rows, layer by layer as in evaluation. ``distance/*`` is the mean over
    units of |mean - true mean| / true deviation; ``variance/averaged`` is the averaged over the pooled variance,
    geometric mean over units, and ``variance/sorted`` the same where the batches hold the classes one after the other.
    """
    if not step:
        return {}
    rows = data.train.inputs
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(recipe.seed))
    batches = _batches(rows[order], recipe.batch_size)
    by_class = _batches(rows[data.train.targets.argsort(stable=True)], recipe.batch_size)
    truth = copy.deepcopy(model)
    recalibrate(truth, batches, sequential=True)
    kinds = {"moving": model, "averaged": copy.deepcopy(model), "pooled": copy.deepcopy(model)}
    recalibrate(kinds["averaged"], batches, "averaged")
    recalibrate(kinds["pooled"], batches)
    found = {}
    for name, kind in kinds.items():
        found[f"score/{name}"] = _score(kind, recipe, data)
        found[f"distance/{name}"] = _distance(kind, truth)
    found["variance/averaged"] = _variance(kinds["averaged"], kinds["pooled"])
    ordered, pooled = copy.deepcopy(model), copy.deepcopy(model)
    recalibrate(ordered, by_class, "averaged")
    recalibrate(pooled, by_class)
    return found | {"variance/sorted": _variance(ordered, pooled)}


def _batches(rows: Tensor, size: int) -> list[Tensor]:
    return [part for part in rows.split(size) if len(part) == size]


@torch.no_grad()
def _score(model: nn.Module, recipe: Recipe, data: Dataset) -> float:
    model.eval()
    return validation_score(model(data.validation.inputs), recipe, data)


def _norms(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    found = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return [(m.running_mean, m.running_var) for m in found if m.running_mean is not None and m.running_var is not None]


def _distance(model: nn.Module, truth: nn.Module) -> float:
    pairs = zip(_norms(model), _norms(truth), strict=True)
    return float(torch.cat([(mean - true).abs() / var.sqrt() for (mean, _), (true, var) in pairs]).mean())


def _variance(model: nn.Module, other: nn.Module) -> float:
    # The first layer only: what it sees does not depend on the statistics, so that both kinds see the same values.
    (_, ours), (_, theirs) = _norms(model)[0], _norms(other)[0]
    return math.exp(float((ours / theirs).log().mean()))


def _nearer(samples: Samples, seed: int) -> tuple[float, float]:
    moving, averaged = (samples.geometric(JUDGED, seed, f"distance/{kind}") for kind in ("moving", "averaged"))
    return moving, averaged


def _better(samples: Samples, seed: int) -> tuple[float, float]:
    averaged, moving = (100 * samples.mean(JUDGED, seed, f"score/{kind}") for kind in ("averaged", "moving"))
    return averaged, moving


def _off(name: str) -> Callable[[Samples, int], float]:
    return lambda samples, seed: 100 * (samples.mean(JUDGED, seed, f"variance/{name}") - 1)


def _draw(samples: Samples) -> list[Chart]:
    def over_training(curve: str, title: str, label: str, *, log_y: bool = False, scale: float = 1.0) -> Chart:
        lines = (
            drawing.curve_line(samples, JUDGED, f"{curve}/{kind}", name, scale=scale) for kind, name in LABELS.items()
        )
        return Chart(title, "steps", label, tuple(lines), log_y=log_y, note=f"{drawing.AREA} {JUDGED}.", band=True)

    label = "distance of means, true deviations"
    return [
        over_training("distance", "Distance from the population's statistics", label, log_y=True),
        over_training("score", "Validation {metric} with each", "validation {metric}, %", scale=100.0),
        drawing.bars(
            samples,
            samples.arms,
            "The averaged variance over the pooled",
            "ratio in the first layer",
            {
                "random batches": lambda arm, seed: samples.mean(arm, seed, "variance/averaged"),
                "one class after the other": lambda arm, seed: samples.mean(arm, seed, "variance/sorted"),
            },
        ),
    ]


STUDY = Lecture(
    name="inference-statistics",
    QUESTION="Which statistics should batch norm evaluate with: a moving average, or those of all training batches?",
    setting="Batches of 8 and of 32. At each evaluation the network is evaluated with its moving averages (momentum "
    "0.1), with the average over all training batches and with pooled statistics (lh.recalibrate). The claims are "
    "judged at 32.",
    DATA="digits",
    observe=compare,
    recipe={"depth": 3, "width": 50, "normalization": "batch", "steps": 300, "evaluate_every": 50},
    quick={"steps": 150, "evaluate_every": 30},
    quick_arms=(JUDGED,),
    arms={f"batch{size}": Arm({"batch_size": size}) for size in SIZES},
    claims=(
        Claim(
            text="The average over all training minibatches is nearer to the population than a moving average.",
            source="lecture 000 (the average) against lectures 001, 004 (the moving average)",
            effect="distance from the population's means, moving over averaged, geometric mean over training",
            measure=_nearer,
            threshold=1.0,
            unit="times",
        ),
        Claim(
            text="A network evaluates better with averaged statistics than with a moving average.",
            source="lecture 000 against lectures 001, 004",
            effect="validation {metric}, averaged less moving, mean over training",
            measure=_better,
            unit="percentage points",
        ),
        Claim(
            text="The average of the minibatches' variances, times B/(B-1), is the population's variance.",
            source="lecture 000",
            effect="averaged over pooled variance of the first layer, less 1, random batches",
            measure=_off("averaged"),
            side="within",
            threshold=2.0,
            unit="per cent",
        ),
        Claim(
            text="It is so in whatever order the rows come.",
            source="lecture 000 (which names no order)",
            effect="averaged over pooled variance of the first layer, less 1, one class after the other",
            measure=_off("sorted"),
            side="within",
            threshold=2.0,
            unit="per cent",
        ),
    ),
    draw=_draw,
)
