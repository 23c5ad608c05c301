"""Rules on the data: values, scales, labels and order."""

from __future__ import annotations

import math

import torch

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.probes.data import Columns, ordered
from levelhead.doctor.probes.neighbours import agreement
from levelhead.doctor.rules.preparation import apart
from levelhead.doctor.rules.suspicion import Suspicion

#: A layer's usual weights keep the signal's scale if the inputs' is 1; by these factors it is far off.
LARGE, SMALL, APART = 5.0, 0.1, 30.0


def non_finite(facts: Facts) -> list[Suspicion]:
    """NaN or infinity in inputs or targets."""
    found = []
    for name, half in (("training", facts.train), ("validation", facts.val)):
        for kind, columns in (("inputs", half.inputs if half else None), ("targets", half.targets if half else None)):
            if columns is not None and columns.bad:
                summary = f"{columns.bad} values of the {name} {kind} are NaN or infinite"
                evidence = {"values": columns.bad, "in": f"{name} {kind}"}
                cure = remedies.finite_inputs(columns.columns.mean) if kind == "inputs" else remedies.finite_targets()
                found.append(Suspicion("non-finite-data", "data", summary, evidence, True, "critical", (cure,)))
    return found[:1]


def invalid_labels(facts: Facts) -> list[Suspicion]:
    """Class numbers outside the classes, or one single label."""
    counts, outputs = facts.train.counts, facts.outputs
    if not counts or (facts.loop.losses and not facts.usual_targets):
        return []
    low, high = min(counts), max(counts)
    classes = outputs.shape[1] if outputs is not None and facts.loss.task == "classes" and outputs.ndim > 1 else 0
    ignored = getattr(facts.program.loss, "ignore_index", -100)
    outside = sum(
        n for label, n in counts.items() if label != ignored and (label < 0 or (classes and label >= classes))
    )
    evidence = {"labels": f"{low} .. {high}", "different": len(counts), "rows": sum(counts.values())}
    failed = facts.loop.error is not None and "out of bounds" in str(facts.loop.error).lower()
    if (outside and classes) or failed:
        summary = f"labels from {low} to {high}" + (f" for {classes} outputs" if classes else "") + " do not fit"
        return [Suspicion("labels-invalid", "data", summary, evidence, True, "critical")]
    if len(counts) == 1 and sum(counts.values()) >= 20 and facts.loss.task == "classes":
        others = len(facts.val.counts) if facts.val else 0
        summary = f"all {sum(counts.values())} training labels are {low}" + (
            f", while the validation data have {others} different ones" if others > 1 else ""
        )
        return [Suspicion("labels-invalid", "data", summary, evidence, True, "critical")]
    return []


def beyond_shares(facts: Facts) -> list[Suspicion]:
    """Targets beyond 0 and 1 for a loss that takes them for shares, or for the answers yes and no."""
    targets = facts.targets
    if facts.loss.task != "quantity" or facts.loss.kind not in ("logits", "probabilities") or targets is None:
        return []
    low, high = float(targets.min()), float(targets.max())
    if low >= 0 and high <= 1:
        return []
    evidence = {"targets": f"{low:.4g} .. {high:.4g}", "loss": "of two classes"}
    summary = f"targets run from {low:.4g} to {high:.4g}, and the loss takes them for shares between 0 and 1"
    cures = (remedies.targets_as_shares(low, high),)
    return [Suspicion("labels-invalid", "data", summary, evidence, True, "critical", cures)]


def disjoint_labels(facts: Facts) -> list[Suspicion]:
    """No label in common between training and validation data."""
    if facts.val is None or not facts.train.counts or not facts.val.counts or not facts.usual_targets:
        return []
    ours, theirs = set(facts.train.counts), set(facts.val.counts)
    if ours & theirs or len(ours) < 2:
        return []
    evidence = {"training labels": sorted(ours)[:12], "validation labels": sorted(theirs)[:12]}
    summary = "training and validation data have no label in common"
    return [Suspicion("train-val-mismatch", "data", summary, evidence, True, "critical")]


def input_scale(facts: Facts) -> list[Suspicion]:
    """Inputs far from zero mean and unit deviation."""
    x = facts.train.inputs
    if x is None or not x.std:
        return []
    offset = abs(x.mean) / x.std
    if SMALL <= x.rms <= LARGE and x.spread <= APART and offset <= LARGE:
        return []
    evidence = {"mean": x.mean, "deviation": x.std, "least": x.low, "largest": x.high, "columns apart": x.spread}
    summary = f"inputs run from {x.low:.4g} to {x.high:.4g}, with mean {x.mean:.4g} and deviation {x.std:.4g}"
    cures = [remedies.standardize_inputs(x.whole.mean, x.whole.std(), "")]
    if _by_column(facts, x) and x.spread > 3:
        std = x.columns.std()
        cures.insert(0, remedies.standardize_inputs(x.columns.mean, std.where(std > 0, torch.ones_like(std)), "0"))
    return [Suspicion("inputs-not-normalized", "data", summary, evidence, remedies=tuple(cures))]


def _by_column(facts: Facts, x: Columns) -> bool:
    return len(x.shape) == 1 and x.columns.mean.numel() == x.shape[0]


def target_scale(facts: Facts) -> list[Suspicion]:
    """Regression targets far from zero mean and unit deviation."""
    y, outputs = facts.train.targets, facts.outputs
    if y is None or outputs is None or facts.loss.task != "quantity" or not facts.usual_targets or not y.std:
        return []
    if facts.targets is None or outputs.shape != facts.targets.shape:
        return []
    if facts.loss.least_elsewhere:  # a loss of counts, say, which means nothing for other units
        return []
    theirs = facts.val.targets if facts.val else None
    if theirs is not None and theirs.std and apart(y, theirs):
        return []  # validation has other units: that comes first
    if SMALL <= y.rms <= LARGE:
        return []
    mean, std = y.columns.mean, y.columns.std()
    std = std.where(std > 0, torch.ones_like(std))
    if len(y.shape) >= 2:
        mean, std = y.whole.mean, y.whole.std()
    reach = _reach(facts)
    certain = math.hypot(y.mean - float(outputs.double().mean()), y.std) > 10 * reach
    evidence = {"mean": y.mean, "deviation": y.std, "least": y.low, "largest": y.high}
    summary = f"targets run from {y.low:.4g} to {y.high:.4g}, with mean {y.mean:.4g} and deviation {y.std:.4g}"
    if certain:
        evidence["within reach"] = reach
        summary += f"; in {facts.updates} updates the outputs can move by about {reach:.3g}"
    cure = remedies.standardize_targets(mean, std)
    return [Suspicion("targets-not-normalized", "data", summary, evidence, certain, "critical", (cure,))]


def _reach(facts: Facts) -> float:
    """How far the last layer can move an output: an Adam-like update changes a weight by about its rate at most."""
    optimizer = facts.program.optimizer
    if "adam" not in type(optimizer).__name__.lower() or not facts.layers:
        return math.inf
    last = facts.layers[-1]
    width = last.input.abs().flatten(1).sum(1).mean().item() if last.input is not None and last.input.ndim > 1 else 1.0
    travel = facts.updates * max(float(group["lr"]) for group in optimizer.param_groups)
    # The layer below can move as far and double what the last one weighs.
    reach = travel * (1 + width * max(1.0, travel)) + 1
    made, given = last.output, facts.outputs
    if made is None or given is None or made.numel() != given.numel() or not float(made.double().std()) > 0:
        return reach
    return reach * max(1.0, float(given.double().std() / made.double().std()))  # a scale that the model puts behind it


def unshuffled(facts: Facts) -> list[Suspicion]:
    """Batches in one order, sorted by their targets."""
    ratio = ordered(facts.train)
    if not facts.train.fixed_order or ratio < 10:
        return []
    evidence = {"variance of batch means, by that of random batches": ratio}
    summary = f"each epoch has the same order, and batches differ {ratio:.0f} times as much as random ones"
    cure = remedies.batches(None, "batches drawn at random")
    return [Suspicion("no-shuffle", "data", summary, evidence, remedies=(cure,))]


def corrupted_labels(facts: Facts) -> list[Suspicion]:
    """Labels that neighbours do not share in training data, though they do in validation data."""
    if facts.train.kept is None or not facts.usual_targets or facts.loss.task != "classes":
        return []
    if facts.train.kept[1].is_floating_point() or len(facts.train.counts) < 2:
        return []
    ours = agreement(*facts.train.kept)
    theirs = agreement(*facts.val.kept) if facts.val and facts.val.kept else None
    if ours is None or theirs is None:
        return []
    low, error = ours[0] - ours[1], 3 * math.hypot(ours[2], theirs[2])
    evidence = {
        "neighbours agree in training": ours[0],
        "in validation": theirs[0],
        "by chance": ours[1],
    }
    if theirs[0] - theirs[1] > 0.3 + error and low < 0.6 * (theirs[0] - theirs[1]) - error:
        summary = (
            f"rows close to each other share their label in {100 * ours[0]:.0f} % of the training data, "
            f"but in {100 * theirs[0]:.0f} % of the validation data ({100 * ours[1]:.0f} % is chance)"
        )
        cures: tuple[remedies.Remedy, ...] = ()
        if low > error and len(facts.train.kept[0]) == facts.train.rows:  # what the neighbours say is worth something
            cures = (remedies.rows_like_their_neighbours(*facts.train.kept, facts.train.sizes[0]),)
        return [Suspicion("labels-corrupted", "data", summary, evidence, True, "critical", cures)]
    return []


def chance(facts: Facts) -> list[Suspicion]:
    """Labels that say nothing about their inputs: no better than a constant answer, and neighbours do not agree."""
    base = facts.base
    if base is None or facts.train.kept is None or facts.loss.task != "classes" or not facts.usual_targets:
        return []
    if facts.train.kept[1].is_floating_point() or len(facts.train.counts) < 2 or base.diverged:
        return []
    ours = agreement(*facts.train.kept)
    fell = base.first_loss - base.train_loss > 0.3 * abs(base.first_loss)
    if ours is None or facts.gain(facts.floor, base.score) > 0.05 or ours[0] > ours[1] + 3 * ours[2] or not fell:
        return []
    evidence = {"score": base.score, "constant answer": facts.floor, "neighbours agree": ours[0], "by chance": ours[1]}
    summary = "the training labels are learnt by heart, and nothing carries over to validation: they fit no input"
    return [Suspicion("labels-corrupted", "data", summary, evidence, True, "critical")]


RULES = (
    non_finite,
    invalid_labels,
    beyond_shares,
    disjoint_labels,
    target_scale,
    input_scale,
    unshuffled,
    corrupted_labels,
)
TRAINED = (chance,)
