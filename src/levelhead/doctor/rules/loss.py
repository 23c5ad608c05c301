"""Rules on the loss and on what the last layer gives it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.isolation import clone
from levelhead.doctor.probes.structure import RANGES
from levelhead.doctor.program import Program, hits
from levelhead.doctor.remedies import Remedy
from levelhead.doctor.rules.suspicion import Suspicion

#: The share of targets that may lie outside the reach of the last activation: noise at its ends.
OUTSIDE = 0.05
#: More whole numbers than these are a quantity.
MOST_CLASSES = 50


def linear_output(facts: Facts) -> list[Remedy]:
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


def sigmoid_output(facts: Facts) -> list[Remedy]:
    """A sigmoid in place of the last activation, where a module does it."""
    if not facts.output.module:
        return []
    code = f"# in {facts.output.where}:\nnn.Sigmoid()"
    return [remedies.replace([facts.output.where], _sigmoid, "sigmoid at the output", code)]


def broadcast(facts: Facts) -> list[Suspicion]:
    """Outputs and targets spread against each other."""
    if not facts.loss.broadcast or facts.outputs is None or facts.targets is None:
        return []
    shapes = tuple(facts.outputs.shape), tuple(facts.targets.shape)
    evidence = {"outputs": str(shapes[0]), "targets": str(shapes[1])}
    both = torch.broadcast_shapes(*shapes)
    summary = f"outputs of shape {shapes[0]} and targets of shape {shapes[1]} are compared as {tuple(both)}"
    return [Suspicion("loss-broadcast", "loss", summary, evidence, True, "critical", (remedies.aligned_loss(),))]


def repeated(facts: Facts) -> list[Suspicion]:
    """The loss applies what the last layer has applied, or lacks what it needs."""
    kind, activation, outputs = facts.loss.kind, facts.output.activation, facts.outputs
    if outputs is None:
        return []
    where, evidence = facts.output.where, {"last activation": activation or "none", "loss": kind}
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
        return [Suspicion("output-mismatch", where, what, evidence, True, "critical", tuple(cures))]
    if kind == "softmax" and activation == "relu":
        what = "the loss applies a softmax to outputs that a ReLU keeps from being negative"
        return [Suspicion("output-mismatch", where, what, evidence, remedies=tuple(cures), gain=0.05)]
    if kind == "logits" and activation in ("sigmoid", "softmax", "hardsigmoid", "relu", "tanh"):
        what = f"the loss applies a sigmoid, and the model ends in a {activation}"
        cure = remedies.other_loss(F.binary_cross_entropy, "loss of probabilities", "criterion = nn.BCELoss()")
        both = (cure, *cures) if activation in ("sigmoid", "softmax") else tuple(cures)
        return [Suspicion("output-mismatch", where, what, evidence, True, "critical", both)]
    if kind == "nll" and activation != "log_softmax" and not _log_probabilities(outputs):
        code = "criterion = nn.CrossEntropyLoss()  # of outputs without an activation"
        cure = remedies.other_loss(remedies.cross_entropy, "cross-entropy", code)
        if activation == "softmax":
            cure = remedies.other_loss(
                remedies.log_of_probabilities, "log of the probabilities", "loss(outputs.log(), ...)"
            )
        what = "the loss expects log-probabilities, and the outputs are none"
        return [Suspicion("output-mismatch", where, what, evidence, True, "critical", (cure,))]
    if kind == "probabilities" and (outputs.min() < 0 or outputs.max() > 1):
        low, high = float(outputs.min()), float(outputs.max())
        what = f"the loss expects probabilities, and outputs run from {low:.3g} to {high:.3g}"
        code = "criterion = nn.BCEWithLogitsLoss()"
        cure = remedies.other_loss(F.binary_cross_entropy_with_logits, "loss of logits", code)
        return [Suspicion("output-mismatch", where, what, evidence, True, "critical", (cure,))]
    return []


def _log_probabilities(outputs: Tensor) -> bool:
    return outputs.ndim > 1 and bool(torch.allclose(outputs.exp().sum(1), torch.ones(()).to(outputs), atol=1e-3))


def single_softmax(facts: Facts) -> list[Suspicion]:
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
    evidence = {"outputs": str(tuple(outputs.shape)), "all equal to": float(outputs.flatten()[0])}
    return [Suspicion("output-mismatch", facts.output.where, summary, evidence, True, "critical", tuple(cures))]


def one_logit(facts: Facts) -> list[Suspicion]:
    """A softmax loss over one output: always 0."""
    outputs = facts.outputs
    if outputs is None or outputs.ndim < 2 or outputs.shape[1] != 1 or facts.output.activation or not facts.loop.losses:
        return []
    zero = not any(facts.loop.returned) and bool(facts.loop.returned) and not facts.loop.gradients
    if not zero:
        return []
    cure = remedies.other_loss(_binary, "binary cross-entropy", "criterion = nn.BCEWithLogitsLoss()")
    summary = "the loss is 0 and passes no gradient: a softmax over the one output is 1 for every input"
    where = facts.output.where
    return [
        Suspicion("output-mismatch", where, summary, {"outputs": str(tuple(outputs.shape))}, True, "critical", (cure,))
    ]


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets.reshape(outputs.shape).to(outputs))


def out_of_range(facts: Facts) -> list[Suspicion]:
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
    evidence = {"targets": f"{least:.4g} .. {most:.4g}", "outputs": f"{low:g} .. {high:g}", "share outside": share}
    if share > OUTSIDE:
        summary = (
            f"targets run from {least:.4g} to {most:.4g}, and a {activation} gives {low:g} to {high:g}: "
            f"{100 * share:.0f} % of them are out of reach"
        )
        return [Suspicion("output-mismatch", facts.output.where, summary, evidence, True, "critical", tuple(cures))]
    if activation == "relu" and facts.loss.task == "binary":
        cures = [*sigmoid_output(facts), *cures]
        summary = "the model ends in a ReLU, which is flat for one of the two classes"
        return [Suspicion("output-mismatch", facts.output.where, summary, evidence, remedies=tuple(cures))]
    if activation == "relu":
        summary = "the model ends in a ReLU: an output that falls below 0 gets no gradient any more"
        return [Suspicion("output-mismatch", facts.output.where, summary, evidence, remedies=tuple(cures))]
    return []


def squashed_classes(facts: Facts) -> list[Suspicion]:
    """A ReLU at the output of a classifier whose loss is an error, or one of its author's own."""
    if (
        facts.loss.task != "classes"
        or facts.loss.kind not in ("squared", "absolute", "")
        or facts.output.activation != "relu"
    ):
        return []
    evidence = {"last activation": "relu", "loss": facts.loss.kind or "unknown"}
    summary = "a classifier ends in a ReLU: an output that falls below 0 gets no gradient any more"
    cures = linear_output(facts)
    if cures and not facts.loss.kind:  # it may expect shares, as a ReLU's outputs are none below 0
        cures.insert(0, remedies.replace([facts.output.where], _softmax, "softmax at the output", "nn.Softmax(dim=1)"))
    return [Suspicion("output-mismatch", facts.output.where, summary, evidence, remedies=tuple(cures))]


def mismatch(facts: Facts) -> list[Suspicion]:
    """An error for classes, or cross-entropy for a quantity."""
    kind, task, activation = facts.loss.kind, facts.loss.task, facts.output.activation
    evidence = {"loss": kind, "targets": task}
    if kind in ("softmax", "nll") and task == "quantity":
        cure = remedies.other_loss(F.mse_loss, "squared error", "criterion = nn.MSELoss()")
        summary = "cross-entropy for a quantity"
        return [Suspicion("loss-mismatch", "loss", summary, evidence, True, "critical", (cure,))]
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
    return [Suspicion("loss-mismatch", "loss", summary, evidence, remedies=tuple(cures))]


def numbered(facts: Facts) -> list[Suspicion]:
    """One output that is trained to come near a class's number, and judged by hitting it."""
    base, kept, outputs, layers = facts.base, facts.train.kept, facts.outputs, facts.layers
    counts = facts.train.counts
    if base is None or kept is None or outputs is None or not layers or not 3 <= len(counts) <= MOST_CLASSES:
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
    evidence = {"classes": len(counts), "outputs": 1, "whole-number hits": share}
    summary = (
        f"one output is trained to come near the class's number, 0 to {len(counts) - 1}, and judged by hitting it: "
        "the loss takes the classes to be in order"
    )
    cure = remedies.outputs_for_classes(layers[-1].name, len(counts))
    return [Suspicion("loss-mismatch", "loss", summary, evidence, remedies=(cure,))]


def _rounded_accuracy(program: Program) -> float:
    copy = clone(program)
    copy.model.eval()
    with torch.no_grad():
        loader = copy.val if copy.val is not None else copy.train
        return hits(copy.model, loader, lambda outputs: outputs.flatten().round())


TRAINED = (numbered,)
RULES = (broadcast, single_softmax, one_logit, repeated, out_of_range, squashed_classes, mismatch)
