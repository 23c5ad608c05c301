"""Rules on the loss: whether it fits what is to be learnt."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Seen, Unchanged
from levelhead.doctor.evidence.history import History
from levelhead.doctor.isolation import clone
from levelhead.doctor.program import Program, hits
from levelhead.doctor.remedies import Remedy
from levelhead.doctor.rules.output import linear_output
from levelhead.doctor.rules.rule import PAYS, Rule, Suspicion
from levelhead.doctor.trials import Outcome

#: More whole numbers than these are a quantity.
MOST_CLASSES = 50


LOSS_BROADCAST = Rule(
    """LH502 loss-broadcast: predictions and targets broadcast against each other
    Why: [N, 1] against [N] is compared as [N, N]: the loss then asks every output to be the mean of all targets.
    Threshold: outputs and targets hold as many values in different shapes, and the loss changes when they are aligned
    Remedy: give both the same shape: outputs.squeeze(1), or targets.unsqueeze(1)
    Example: loss = criterion(outputs.squeeze(1), targets)"""
)


@LOSS_BROADCAST.check()
def broadcast(facts: Evidence) -> list[Suspicion]:
    """Outputs and targets spread against each other."""
    if not facts.loss.broadcast or facts.outputs is None or facts.targets is None:
        return []
    shapes = tuple(facts.outputs.shape), tuple(facts.targets.shape)
    figures = {"outputs": str(shapes[0]), "targets": str(shapes[1])}
    both = torch.broadcast_shapes(*shapes)
    summary = f"outputs of shape {shapes[0]} and targets of shape {shapes[1]} are compared as {tuple(both)}"
    return [LOSS_BROADCAST.suspect("loss", summary, figures, True, "critical", (remedies.aligned_loss(),))]


@LOSS_BROADCAST.check("script")
def broadcast_in_script(facts: Evidence, seen: Seen) -> list[Suspicion]:
    """The same of a script, in a loss function or a difference."""
    if not seen.mismatch:
        return []
    summary = f"outputs and targets of shapes {seen.mismatch} are broadcast against each other"
    return [LOSS_BROADCAST.suspect("loss", summary, {}, True, "critical", (remedies.aligned_loss(),))]


LOSS_MISMATCH = Rule(
    f"""LH501 loss-mismatch: a loss that does not fit the task
    Why: The squared or absolute error of a squashed output has hardly any gradient where the answer is most wrong. One
    output that is trained to come near a class's number takes the classes to be in order: where the score counts hits
    of that number, an output for each class with cross-entropy is tried. The loss is also asked with made-up answers:
    one that is the same for every answer to rows of one class (a hinge with labels 0 and 1 instead of -1 and 1; an
    `ignore_index` that is a class) says nothing about them, and one that is least at other answers than the targets (a
    Poisson loss that takes the outputs for logarithms) wants another output.
    Threshold: squared or absolute error for classes, cross-entropy for a quantity, or outputs equal to the targets cost
    more than others; {PAYS}; or every answer to the rows of one class costs the same
    Remedy: cross-entropy for classes, squared error for a quantity
    Example: nn.CrossEntropyLoss()  # of classes"""
)


@LOSS_MISMATCH.check("unchanged", "script")
def compared_otherwise(_: Evidence, run: Unchanged, script: Seen) -> list[Suspicion]:
    """A script's loss of quantities that does not suit its targets: cross-entropy, and a squared error."""
    quantities = set(run.losses) & set(remedies.QUANTITIES)
    if LOSS_MISMATCH.cause not in run.places or script.mismatch or not quantities:
        return []
    classes = remedies.other_loss(remedies.cross_entropy, "cross-entropy", "criterion = nn.CrossEntropyLoss()")
    squared = remedies.other_loss(F.mse_loss, "squared error", "criterion = nn.MSELoss()")
    cures = [classes, *([squared] if quantities - {"mse_loss"} else [])]
    return [LOSS_MISMATCH.tried_with("loss", cure) for cure in cures]


@LOSS_MISMATCH.check()
def mismatch(facts: Evidence) -> list[Suspicion]:
    """An error for classes, or cross-entropy for a quantity."""
    kind, task, activation = facts.loss.kind, facts.loss.task, facts.output.activation
    figures = {"loss": kind, "targets": task}
    if kind in ("softmax", "nll") and task == "quantity":
        cure = remedies.other_loss(F.mse_loss, "squared error", "criterion = nn.MSELoss()")
        summary = "cross-entropy for a quantity"
        return [LOSS_MISMATCH.suspect("loss", summary, figures, True, "critical", (cure,))]
    if kind not in ("squared", "absolute") or task not in ("classes", "binary"):
        return []
    cures: list[Remedy] = []
    if task == "classes":
        if activation == "softmax":
            cures.append(
                remedies.other_loss(
                    remedies.log_of_probabilities,
                    "cross-entropy of the probabilities",
                    "criterion = nn.NLLLoss()  # of log(outputs)",
                )
            )
        else:
            cross = remedies.other_loss(remedies.cross_entropy, "cross-entropy", "criterion = nn.CrossEntropyLoss()")
            cures.append(remedies.together([*linear_output(facts), cross]))
    elif activation == "sigmoid":
        cures.append(remedies.other_loss(F.binary_cross_entropy, "binary cross-entropy", "criterion = nn.BCELoss()"))
    if kind == "absolute":
        cures.append(remedies.other_loss(F.mse_loss, "squared error", "criterion = nn.MSELoss()"))
    if not cures:
        return []
    summary = f"the {kind} error for {'two ' if task == 'binary' else ''}classes"
    return [LOSS_MISMATCH.suspect("loss", summary, figures, remedies=tuple(cures))]


@LOSS_MISMATCH.check()
def silent(facts: Evidence) -> list[Suspicion]:
    """A loss that is the same for every answer to the rows of one class."""
    labels = facts.loss.silent
    if len(labels) != 1 or facts.targets is None:
        return []
    share = float((facts.targets == labels[0]).double().mean())
    figures = {"label": labels[0], "share of the rows": share}
    summary = f"for targets of {labels[0]} ({100 * share:.0f} % of the rows) every answer costs the same"
    if facts.loss.task == "binary":
        return [LOSS_MISMATCH.suspect("loss", summary, figures, True, "critical", (_of_two_classes(facts),))]
    code = "criterion = nn.CrossEntropyLoss()  # of all classes"
    cure = remedies.other_loss(remedies.cross_entropy, "cross-entropy of all classes", code)
    return [LOSS_MISMATCH.suspect("loss", summary, figures, remedies=(cure,))]


@LOSS_MISMATCH.check()
def not_minimal_at_target(facts: Evidence) -> list[Suspicion]:
    """A loss that costs least at other answers than the targets, though the score wants these."""
    if not facts.loss.not_minimal_at_target or facts.loss.rewards_errors or facts.loss.kind:
        return []
    squared = remedies.other_loss(F.mse_loss, "squared error", "criterion = nn.MSELoss()")
    cures = [squared]
    if facts.output.range is not None and facts.output.range[0] >= 0:
        cures.insert(0, remedies.of_logarithms())
    figures = {"loss": "not least where outputs are the targets", "last activation": facts.output.activation or "none"}
    summary = "outputs that are equal to the targets cost more than others: the loss takes them for something else"
    return [LOSS_MISMATCH.suspect("loss", summary, figures, remedies=tuple(cures))]


@LOSS_MISMATCH.check("base")
def numbered(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """One output that is trained to come near a class's number, and judged by hitting it."""
    kept, outputs, layers = facts.train.kept, facts.outputs, facts.layers
    counts = facts.train.counts
    if kept is None or outputs is None or not layers or not 3 <= len(counts) <= MOST_CLASSES:
        return []
    one = isinstance(layers[-1].module, nn.Linear) and layers[-1].module.out_features == 1
    if not one or sorted(counts) != list(range(len(counts))) or outputs.numel() != len(outputs):
        return []
    try:
        share = _rounded_accuracy(base.program)
    except Exception:
        return []  # the model takes something else than the loader's inputs
    if abs(share - base.score) > 0.01:  # it is not judged by hits: it may be meant as a quantity
        return []
    figures = {"classes": len(counts), "outputs": 1, "whole-number hits": share}
    summary = (
        f"one output is trained to come near the class's number, 0 to {len(counts) - 1}, and judged by hitting it: "
        "the loss takes the classes to be in order"
    )
    cure = remedies.outputs_for_classes(layers[-1].name, len(counts))
    return [LOSS_MISMATCH.suspect("loss", summary, figures, remedies=(cure,))]


def _rounded_accuracy(program: Program) -> float:
    copy = clone(program)
    copy.model.eval()
    with torch.no_grad():
        loader = copy.val if copy.val is not None else copy.train
        return hits(copy.model, loader, lambda outputs: outputs.flatten().round())


def _of_two_classes(facts: Evidence) -> Remedy:
    if facts.output.range == (0.0, 1.0):
        return remedies.other_loss(F.binary_cross_entropy, "binary cross-entropy", "criterion = nn.BCELoss()")
    code = "criterion = nn.BCEWithLogitsLoss()"
    return remedies.other_loss(remedies.binary_cross_entropy, "binary cross-entropy", code)


NON_FINITE_LOSS = Rule(
    """LH505 non-finite-loss: the loss itself is not finite, while weights, inputs and outputs are
    Why: No learning rate mends a NaN that the loss makes of finite numbers: the logarithm of 0, 0 / 0 in a mean over
    nothing (an empty mask, a class that is absent), a NaN among the targets. A step that leaves such updates out hides
    it.
    Threshold: one such loss; an examination also asks that no input or target of the loaders is NaN
    Remedy: look at that batch's targets; keep logarithms and divisions of the loss from 0
    Example: loss = torch.log(p.clamp_min(1e-6))  # and sum / count.clamp_min(1)""",
    last=True,
    explains=("learning-rate-too-high", "poisoned-running-statistics", "does-not-learn"),
)


@NON_FINITE_LOSS.check("base")
def lost_while_finite(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """A loss that is not finite, of a model whose weights, inputs and outputs are."""
    first = next(iter(facts.loop.losses), None)
    halves = [c for d in (facts.train, facts.val) if d is not None for c in (d.inputs, d.targets)]
    if not base.diverged or any(c is not None and c.bad for c in halves):
        return []
    at_first = (
        first is not None and not math.isfinite(first.value) and _finite(first.outputs) and _finite(first.targets)
    )
    if not (at_first or base.finite_when_lost):
        return []
    at = next((i for i, loss in enumerate(base.losses, 1) if not math.isfinite(loss)), 1)
    summary = (
        f"the loss of update {at} is {base.losses[at - 1] if base.losses else math.nan}, and the weights are finite"
    )
    return [NON_FINITE_LOSS.suspect("loss", summary, {"update": at}, True, "critical")]


def _finite(value: Any) -> bool:
    return isinstance(value, Tensor) and bool(torch.isfinite(value).all())


@NON_FINITE_LOSS.check("history")
def lost_while_watched(facts: Evidence, history: History) -> list[Suspicion]:
    """A watched loss that is not finite, though the model's outputs were."""
    if not history.finite_when_lost or history.input_lost_at >= 0:
        return []
    at = history.loss_lost_at + 1
    summary = f"the loss of update {at} is not finite, though inputs, weights and outputs were"
    return [NON_FINITE_LOSS.suspect("loss", summary, {"update": at}, True, "critical")]


RULES = (LOSS_BROADCAST, LOSS_MISMATCH, NON_FINITE_LOSS)
