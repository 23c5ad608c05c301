"""Rules on what the last layer gives to the loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Unchanged
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.structure import RANGES
from levelhead.doctor.remedies import Remedy
from levelhead.doctor.rules.rule import PAYS, Rule, Suspicion

#: The share of targets that may lie outside the reach of the last activation: noise at its ends.
OUTSIDE = 0.05


def linear_output(facts: Evidence) -> list[Remedy]:
    """The last activation left out, where a module does it."""
    if not facts.output.module:
        return []
    code = f"# without the {facts.output.activation} of {facts.output.where}"
    return [remedies.replace([facts.output.where], _identity, "no activation at the output", code)]


def _identity(module: nn.Module) -> nn.Module:
    return nn.Identity()


def _sigmoid(module: nn.Module) -> nn.Module:
    return nn.Sigmoid()


def _softmax(module: nn.Module) -> nn.Module:
    return nn.Softmax(dim=1)


def sigmoid_output(facts: Evidence) -> list[Remedy]:
    """A sigmoid in place of the last activation, where a module does it."""
    if not facts.output.module:
        return []
    code = f"# in {facts.output.where}:\nnn.Sigmoid()"
    return [remedies.replace([facts.output.where], _sigmoid, "sigmoid at the output", code)]


OUTPUT_MISMATCH = Rule(
    f"""LH304 output-mismatch: the last layer's activation cannot represent the target
    Why: The last activation and the loss must fit. The rule asks the loss itself: is it unchanged when a constant is
    added to a row (it applies a softmax), linear (it expects log-probabilities), falling for ever (a sigmoid)? So it
    holds for losses of any name, and for functions as for modules. A clamp of the outputs is an activation like any
    other. A softmax shares out one label: where rows have several, or none, each label needs a sigmoid.
    Threshold: more than {100 * OUTSIDE:.0f} % of the targets outside the range of the last activation, or the loss
    applies it again or lacks it, or a softmax where rows have several labels; a ReLU at the end: {PAYS}
    Remedy: give the loss what it expects
    Example: nn.CrossEntropyLoss()(model(x), y)  # a model without a softmax of its own""",
    explains=("does-not-learn",),
)


@OUTPUT_MISMATCH.check("unchanged")
def squashed_again(_: Evidence, run: Unchanged) -> list[Suspicion]:
    """What a script squashes, and then its loss."""
    where = run.layers[-1][0] if run.layers else "loss"
    return [OUTPUT_MISMATCH.tried_with(where, remedies.squashed_once())] if run.twice else []


@OUTPUT_MISMATCH.check()
def single_softmax(facts: Evidence) -> list[Suspicion]:
    """A softmax over one output: always 1."""
    outputs, targets = facts.outputs, facts.targets
    if facts.output.activation not in ("softmax", "log_softmax") or outputs is None or targets is None:
        return []
    constant = outputs.ndim > 1 and outputs.shape[1] == 1 and bool((outputs == outputs.flatten()[0]).all())
    if not constant:
        return []
    cures = linear_output(facts)
    if facts.loss.task == "binary":
        cures = [*sigmoid_output(facts), *cures]
    summary = f"a softmax over one output is {float(outputs.flatten()[0]):g} for every input, and passes no gradient"
    figures = {"outputs": str(tuple(outputs.shape)), "all equal to": float(outputs.flatten()[0])}
    return [OUTPUT_MISMATCH.suspect(facts.output.where, summary, figures, True, "critical", tuple(cures))]


@OUTPUT_MISMATCH.check()
def one_logit(facts: Evidence) -> list[Suspicion]:
    """A softmax loss over one output: always 0."""
    outputs = facts.outputs
    if outputs is None or outputs.ndim < 2 or outputs.shape[1] != 1 or facts.output.activation or not facts.loop.losses:
        return []
    zero = not any(facts.loop.returned) and bool(facts.loop.returned) and not facts.loop.gradients
    if not zero:
        return []
    cure = remedies.other_loss(
        remedies.binary_cross_entropy, "binary cross-entropy", "criterion = nn.BCEWithLogitsLoss()"
    )
    summary = "the loss is 0 and passes no gradient: a softmax over the one output is 1 for every input"
    where = facts.output.where
    return [OUTPUT_MISMATCH.suspect(where, summary, {"outputs": str(tuple(outputs.shape))}, True, "critical", (cure,))]


@OUTPUT_MISMATCH.check()
def repeated(facts: Evidence) -> list[Suspicion]:
    """The loss applies what the last layer has applied, or lacks what it needs."""
    kind, activation, outputs = facts.loss.kind, facts.output.activation, facts.outputs
    if outputs is None:
        return []
    where, figures = facts.output.where, {"last activation": activation or "none", "loss": kind}
    cures = linear_output(facts)
    if kind == "softmax" and activation in ("softmax", "sigmoid", "tanh", "hardtanh", "hardsigmoid"):
        what = (
            "the loss applies a softmax, and the model ends in one"
            if activation == "softmax"
            else (
                f"the loss applies a softmax to outputs that a {activation} "
                f"holds between {RANGES[activation][0]:g} and 1"
            )
        )
        if activation == "softmax":
            code = "criterion = nn.NLLLoss()  # of log(outputs)"
            cures.append(remedies.other_loss(remedies.log_of_probabilities, "loss of probabilities", code))
        return [OUTPUT_MISMATCH.suspect(where, what, figures, True, "critical", tuple(cures))]
    if kind == "softmax" and activation == "relu":
        what = "the loss applies a softmax to outputs that a ReLU keeps from being negative"
        return [OUTPUT_MISMATCH.suspect(where, what, figures, remedies=tuple(cures), gain=0.05)]
    if kind == "logits" and activation in ("sigmoid", "softmax", "hardsigmoid", "relu", "tanh"):
        what = f"the loss applies a sigmoid, and the model ends in a {activation}"
        cure = remedies.other_loss(F.binary_cross_entropy, "loss of probabilities", "criterion = nn.BCELoss()")
        both = (cure, *cures) if activation in ("sigmoid", "softmax") else tuple(cures)
        return [OUTPUT_MISMATCH.suspect(where, what, figures, True, "critical", both)]
    if kind == "nll" and activation != "log_softmax" and not _log_probabilities(outputs):
        code = "criterion = nn.CrossEntropyLoss()  # of outputs without an activation"
        cure = remedies.other_loss(remedies.cross_entropy, "cross-entropy", code)
        if activation == "softmax":
            cure = remedies.other_loss(
                remedies.log_of_probabilities, "log of the probabilities", "loss(outputs.log(), ...)"
            )
        what = "the loss expects log-probabilities, and the outputs are none"
        return [OUTPUT_MISMATCH.suspect(where, what, figures, True, "critical", (cure,))]
    if kind == "probabilities" and (outputs.min() < 0 or outputs.max() > 1):
        low, high = float(outputs.min()), float(outputs.max())
        what = f"the loss expects probabilities, and outputs run from {low:.3g} to {high:.3g}"
        code = "criterion = nn.BCEWithLogitsLoss()"
        cure = remedies.other_loss(F.binary_cross_entropy_with_logits, "loss of logits", code)
        return [OUTPUT_MISMATCH.suspect(where, what, figures, True, "critical", (cure,))]
    return []


def _log_probabilities(outputs: Tensor) -> bool:
    return outputs.ndim > 1 and bool(torch.allclose(outputs.exp().sum(1), torch.ones(()).to(outputs), atol=1e-3))


@OUTPUT_MISMATCH.check()
def out_of_range(facts: Evidence) -> list[Suspicion]:
    """Targets that the last activation cannot give."""
    activation, targets = facts.output.activation, facts.targets
    if facts.output.range is None or targets is None or facts.loss.task not in ("quantity", "binary"):
        return []
    if facts.loss.kind in ("softmax", "nll", "logits") or facts.outputs is None or targets.shape != facts.outputs.shape:
        return []
    values = facts.train.kept[1] if facts.usual_targets and facts.train.kept is not None else targets
    low, high = facts.output.range
    share = float(((values < low) | (values > high)).double().mean())
    cures = linear_output(facts)
    least, most = float(values.min()), float(values.max())
    figures = {"targets": f"{least:.4g} .. {most:.4g}", "outputs": f"{low:g} .. {high:g}", "share outside": share}
    if share > OUTSIDE:
        summary = (
            f"targets run from {least:.4g} to {most:.4g}, and a {activation} gives {low:g} to {high:g}: "
            f"{100 * share:.0f} % of them are out of reach"
        )
        return [OUTPUT_MISMATCH.suspect(facts.output.where, summary, figures, True, "critical", tuple(cures))]
    if activation == "relu" and facts.loss.task == "binary":
        cures = [*sigmoid_output(facts), *cures]
        summary = "the model ends in a ReLU, which is flat for one of the two classes"
        return [OUTPUT_MISMATCH.suspect(facts.output.where, summary, figures, remedies=tuple(cures))]
    if activation == "relu":
        summary = "the model ends in a ReLU: an output that falls below 0 gets no gradient any more"
        return [OUTPUT_MISMATCH.suspect(facts.output.where, summary, figures, remedies=tuple(cures))]
    return []


@OUTPUT_MISMATCH.check()
def squashed_classes(facts: Evidence) -> list[Suspicion]:
    """A ReLU at the output of a classifier whose loss is an error, or one of its author's own."""
    if (
        facts.loss.task != "classes"
        or facts.loss.kind not in ("squared", "absolute", "")
        or facts.output.activation != "relu"
    ):
        return []
    figures = {"last activation": "relu", "loss": facts.loss.kind or "unknown"}
    summary = "a classifier ends in a ReLU: an output that falls below 0 gets no gradient any more"
    cures = linear_output(facts)
    if cures and not facts.loss.kind:  # it may expect shares, as a ReLU's outputs are none below 0
        cures.insert(0, remedies.replace([facts.output.where], _softmax, "softmax at the output", "nn.Softmax(dim=1)"))
    return [OUTPUT_MISMATCH.suspect(facts.output.where, summary, figures, remedies=tuple(cures))]


@OUTPUT_MISMATCH.check()
def one_of_many(facts: Evidence) -> list[Suspicion]:
    """A softmax, in the model or in the loss, where several labels of a row are 1, or none."""
    targets, outputs = facts.targets, facts.outputs
    if facts.loss.task != "binary" or targets is None or outputs is None or targets.shape != outputs.shape:
        return []
    if targets.ndim < 2 or targets.shape[1] < 2:
        return []
    inside, last = facts.loss.kind == "softmax", facts.output.activation == "softmax"
    if not inside and not last:
        return []
    several = float((targets.sum(1) != 1).double().mean())
    figures = {"rows with several labels, or none": several, "labels": targets.shape[1]}
    summary = f"{100 * several:.0f} % of the rows have several labels or none, and a softmax shares out one"
    if last:
        cures = sigmoid_output(facts)
        where = facts.output.where
        return [OUTPUT_MISMATCH.suspect(where, summary, figures, True, "critical", tuple(cures))]
    code = "criterion = nn.BCEWithLogitsLoss()"
    cures = [
        *linear_output(facts),
        remedies.other_loss(remedies.binary_cross_entropy, "a sigmoid for each label", code),
    ]
    return [Suspicion("loss-mismatch", "loss", summary, figures, remedies=(remedies.together(cures),))]


@OUTPUT_MISMATCH.check("history")
def squashed_twice(facts: Evidence, history: History) -> list[Suspicion]:
    """A watched loss whose graph applies a softmax or a sigmoid to what one has given."""
    if not history.twice:
        return []
    where = next(reversed(history.measured[0].layers), "") if history.measured else ""
    summary = f"the loss applies its own {history.twice} to outputs that a softmax or sigmoid has given"
    return [OUTPUT_MISMATCH.suspect(where, summary, {"twice": history.twice}, True, "critical")]


RULES = (OUTPUT_MISMATCH,)
