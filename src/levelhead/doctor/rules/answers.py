"""Rules on the answers that a loss asks for: all classes, the targets themselves, several labels at once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.remedies import Remedy
from levelhead.doctor.rules.loss import linear_output, one_logit, sigmoid_output, single_softmax
from levelhead.doctor.rules.suspicion import Suspicion


def silent(facts: Facts) -> list[Suspicion]:
    """A loss that is the same for every answer to the rows of one class."""
    labels = facts.loss.silent
    if len(labels) != 1 or facts.targets is None:
        return []
    share = float((facts.targets == labels[0]).double().mean())
    evidence = {"label": labels[0], "share of the rows": share}
    summary = f"for targets of {labels[0]} ({100 * share:.0f} % of the rows) every answer costs the same"
    if facts.loss.task == "binary":
        return [Suspicion("loss-mismatch", "loss", summary, evidence, True, "critical", (_of_two_classes(facts),))]
    code = "criterion = nn.CrossEntropyLoss()  # of all classes"
    cure = remedies.other_loss(remedies.cross_entropy, "cross-entropy of all classes", code)
    return [Suspicion("loss-mismatch", "loss", summary, evidence, remedies=(cure,))]


def flat(facts: Facts) -> list[Suspicion]:
    """Gradients arrive at the parameters, and all of them are zero: the way to the loss is a staircase."""
    loop = facts.loop
    if not loop.reached or loop.gradients or loop.error is not None or not loop.updates:
        return []
    if single_softmax(facts) or one_logit(facts):
        return []  # these say why
    evidence = {"parameters with a gradient of zero": len(loop.reached)}
    summary = f"the gradients of all {len(loop.reached)} parameters are zero: the loss does not change with small steps"
    return [Suspicion("loss-detached", "loss", summary, evidence, True, "critical")]


def _of_two_classes(facts: Facts) -> Remedy:
    if facts.output.range == (0.0, 1.0):
        return remedies.other_loss(F.binary_cross_entropy, "binary cross-entropy", "criterion = nn.BCELoss()")
    code = "criterion = nn.BCEWithLogitsLoss()"
    return remedies.other_loss(_binary_cross_entropy, "binary cross-entropy", code)


def _binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs.reshape(targets.shape), targets.to(outputs))


def least_elsewhere(facts: Facts) -> list[Suspicion]:
    """A loss that costs least at other answers than the targets, though the score wants these."""
    if not facts.loss.least_elsewhere or facts.loss.rewards_errors or facts.loss.kind:
        return []
    squared = remedies.other_loss(F.mse_loss, "squared error", "criterion = nn.MSELoss()")
    cures = [squared]
    if facts.output.range is not None and facts.output.range[0] >= 0:
        cures.insert(0, remedies.of_logarithms())
    evidence = {"loss": "not least where outputs are the targets", "last activation": facts.output.activation or "none"}
    summary = "outputs that are equal to the targets cost more than others: the loss takes them for something else"
    return [Suspicion("loss-mismatch", "loss", summary, evidence, remedies=tuple(cures))]


def one_of_many(facts: Facts) -> list[Suspicion]:
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
    evidence = {"rows with several labels, or none": several, "labels": targets.shape[1]}
    summary = f"{100 * several:.0f} % of the rows have several labels or none, and a softmax shares out one"
    if last:
        cures = sigmoid_output(facts)
        where = facts.output.where
        return [Suspicion("output-mismatch", where, summary, evidence, True, "critical", tuple(cures))]
    code = "criterion = nn.BCEWithLogitsLoss()"
    cures = [*linear_output(facts), remedies.other_loss(_binary_cross_entropy, "a sigmoid for each label", code)]
    return [Suspicion("loss-mismatch", "loss", summary, evidence, remedies=(remedies.together(cures),))]


RULES = (silent, flat, least_elsewhere, one_of_many)
