"""Does dropout prevent overfitting, and is evaluation without it the mean of training with it?

After Srivastava et al. 2014, "Dropout: A simple way to prevent neural networks from overfitting", sections 6.1, 7.3,
and 7.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from levelhead.studies import drawing
from levelhead.studies.claims import Claim, Measure, points, values
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples
from levelhead.studies.views import Rows
from levelhead.training.networks import build
from levelhead.training.objectives import validation_score

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training import Recipe

WIDTHS, RATES = (64, 512), (0.0, 0.25, 0.5, 0.75)
#: Passes with dropout that are averaged.
PASSES = 100
WIDE, RATE = WIDTHS[-1], 0.5


def averaged(model: nn.Module, recipe: Recipe, data: Dataset, step: int) -> dict[str, float]:
    """At the end: mean activations and score of evaluation, against the average of 100 passes with dropout.

    ``first_ratio`` and ``last_ratio`` are of the outputs of the first and the last hidden layer, dropout included;
    ``averaged_score`` is the validation score of the mean of the probabilities, ``unscaled_score`` that of
    evaluation where training did not scale by 1/(1-p).
    """
    found = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    if step < recipe.steps or not found:
        return {}
    seen: dict[str, list[float]] = {"first_ratio": [], "last_ratio": []}
    for name, module in (("first_ratio", found[0]), ("last_ratio", found[-1])):
        means = seen[name]
        module.register_forward_hook(lambda _, __, out, means=means: means.append(float(out.double().mean())))
    x = data.validation.inputs
    with torch.no_grad():
        model(x)
        # What training had scaled up, unscaled: each hidden output is 1/(1-p) of what the next layer is used to.
        larger = [module.register_forward_hook(lambda _, __, out: out / (1 - recipe.dropout)) for module in found]
        unscaled = validation_score(model(x), recipe, data)
        for handle in larger:
            handle.remove()
        for means in seen.values():
            means.pop()
        model.train()
        chances = sum(torch.softmax(model(x), 1) for _ in range(PASSES))
    assert isinstance(chances, torch.Tensor)
    ratios = {name: sum(means[1:]) / PASSES / means[0] for name, means in seen.items()}
    averaged = validation_score(chances, recipe, data)
    return ratios | {"averaged_score": averaged, "unscaled_score": unscaled}


def _arm(width: int, rate: float) -> str:
    return f"width{width} p{rate:g}"


BY_RATE = {f"width {width}": {rate: _arm(width, rate) for rate in RATES} for width in WIDTHS}
ON, OFF = _arm(WIDE, RATE), _arm(WIDE, 0.0)
ONCE = f"{ON}, one mask"


class Thinned(nn.Module):
    """Dropout whose mask was drawn once, for training and evaluation: the network is one of the thinned ones."""

    mask: torch.Tensor

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.rand(width) >= p) / (1 - p))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The rest of the units."""
        return x * self.mask


def fixed(recipe: Recipe, data: Dataset) -> nn.Module:
    """The recipe's MLP with one mask in each hidden layer, drawn by the recipe's seed."""
    model = build(recipe.replace(network="mlp"), data)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Dropout):
            model.get_submodule(name.rpartition(".")[0]).dropout = Thinned(recipe.width, module.p)
    return model


def _activation(name: str) -> Callable[[Samples, int], float]:
    return lambda samples, seed: 100 * (samples.last(ON, seed, f"{name}_ratio") - 1)


def _scaling(other: str) -> Measure:
    return lambda samples, seed: (
        100 * samples.last(ON, seed, "validation_score"),
        100 * samples.last(ON, seed, other),
    )


STUDY = Lecture(
    name="dropout",
    QUESTION="Does dropout prevent overfitting, and is evaluation without it the mean of training with it?",
    setting="Layers of 64 and of 512 units, dropout in the hidden layers. The claims are judged at 512 units and a "
    "rate of 0.5. With one mask for all of training, evaluation has it too: that network is one of the thinned ones.",
    DATA="digits",
    view=Rows(200),
    observe=averaged,
    recipe={"depth": 2, "steps": 600, "initialization": "he"},
    quick={"steps": 250},
    quick_arms=(_arm(64, 0.0), _arm(64, 0.5), OFF, ON, ONCE),
    arms={_arm(width, rate): Arm({"width": width, "dropout": rate}) for width in WIDTHS for rate in RATES}
    | {ONCE: Arm({"width": WIDE, "dropout": RATE, "network": f"{__name__}:fixed"})},
    claims=(
        Claim(
            text="Dropout prevents overfitting.",
            source="lectures 001, 004",
            effect="validation loss at the end, with dropout less without",
            measure=values("last", ON, OFF, "validation_loss"),
            side="below",
            unit="nats",
            delta=0.02,
        ),
        Claim(
            text="A network trained with dropout generalizes better.",
            source="lectures 001, 004",
            effect="validation {metric} at the end, with dropout less without",
            measure=points("last", ON, OFF, "validation_score"),
            unit="percentage points",
        ),
        Claim(
            text="The units to drop are to be drawn anew for each minibatch.",
            source="lecture 003",
            effect="validation {metric} at the end, a mask for each minibatch less one mask for all of training",
            measure=points("last", ON, ONCE, "validation_score"),
            unit="percentage points",
        ),
        *(
            Claim(
                text=f"Scaled by 1/(1-p), dropout leaves the mean activation of the {name} hidden layer as it is.",
                source="lectures 001, 004",
                effect=f"mean output of the {name} hidden layer in training over evaluation, less 1",
                measure=_activation(name),
                side="within",
                threshold=2.0,
                unit="per cent",
            )
            for name in ("first", "last")
        ),
        Claim(
            text="Evaluation with all units stands for the average over the thinned networks.",
            source="lectures 001, 003",
            effect="validation {metric} of weight scaling less that of 100 averaged passes with dropout",
            measure=_scaling("averaged_score"),
            side="within",
            threshold=1.0,
            unit="percentage points",
        ),
        Claim(
            text="The activations must be scaled: without 1/(1-p) a network evaluates worse.",
            source="lectures 001, 004",
            effect="validation {metric} at the end, with the scaling less without",
            measure=_scaling("unscaled_score"),
            unit="percentage points",
        ),
    ),
    draw=drawing.each(
        *(
            drawing.by_setting(title, "dropout rate", label, BY_RATE, "last", f"validation_{of}", scale=scale)
            for title, label, of, scale in (
                ("Score by rate", "last validation {metric}, %", "score", 100),
                ("Loss by rate", "last validation loss", "loss", 1),
            )
        ),
        drawing.over_training(
            OFF, ON, ONCE, name="validation_loss", title="Validation loss over training", label="validation loss"
        ),
    ),
    notes=(
        "Changed after a first look: the mean activation was judged at the last hidden layer alone, and is now at the "
        "first too, where the scaling acts on what it is derived for.",
    ),
)
