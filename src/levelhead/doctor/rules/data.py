"""Rules on the data: values, scales, labels and order."""

from __future__ import annotations

import math

import torch

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Unchanged
from levelhead.doctor.evidence.data import Columns, ordered
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.tables import agreement
from levelhead.doctor.rules.preparation import apart
from levelhead.doctor.rules.rule import AFTERMATH, LEARNT, PAYS, Rule, Suspicion
from levelhead.doctor.trials import Outcome

#: Neighbours' agreement in training by that in validation data, beyond chance; batches' variance by random ones'.
AGREE, ORDERED = 0.6, 10.0
#: Squared differences of the means of neighbouring batches, by what they are in a random order (von Neumann 1941).
ALIKE = 0.5
#: The part of the labels' variance that lies between batches of one class each.
PURE = 0.75
#: Targets further away than so many times the way that the outputs can go are out of reach.
BEYOND_REACH = 10.0
#: A layer's usual weights keep the signal's scale if the inputs' is 1; by these factors it is far off.
LARGE, SMALL, APART = 5.0, 0.1, 30.0


NON_FINITE_DATA = Rule(
    """LH106 non-finite-data: NaN or infinity in the inputs or targets
    Why: One NaN makes the loss NaN, and with it every weight. Tried is the column's mean in the place of such inputs,
    and the loss without the rows of such targets; what the rows should have held is for you to find out.
    Threshold: one such value in inputs or targets
    Remedy: find the rows and drop or impute them
    Example: keep = torch.isfinite(x).all(1)
    x, y = x[keep], y[keep]""",
    explains=(
        "non-finite-loss",
        "does-not-learn",
        "learning-rate-too-high",
        "poisoned-running-statistics",
        "output-mismatch",
    ),
)


@NON_FINITE_DATA.check()
def non_finite(facts: Evidence) -> list[Suspicion]:
    """NaN or infinity in inputs or targets."""
    found = []
    for name, half in (("training", facts.train), ("validation", facts.val)):
        for kind, columns in (("inputs", half.inputs if half else None), ("targets", half.targets if half else None)):
            if columns is not None and columns.bad:
                summary = f"{columns.bad} values of the {name} {kind} are NaN or infinite"
                figures = {"values": columns.bad, "in": f"{name} {kind}"}
                cure = remedies.finite_inputs(columns.columns.mean) if kind == "inputs" else remedies.finite_targets()
                found.append(NON_FINITE_DATA.suspect("data", summary, figures, True, "critical", (cure,)))
    return found[:1]


LABELS_INVALID = Rule(
    """LH104 labels-invalid: labels outside the classes, of the wrong type, or scaled as if they were inputs
    Why: A class number must be one of the outputs. Labels that were divided like pixel values become one single number
    when they are stored as integers. A mask of 0 and 255 for a loss of two classes is the same slip the other way.
    Threshold: a label outside 0 .. outputs - 1, or one single label in all the training data; or targets beyond 0 .. 1
    for a loss that takes them for shares
    Remedy: give class numbers from 0 to classes - 1, unscaled
    Example: y = y.long()  # 0 .. classes - 1, unscaled"""
)


@LABELS_INVALID.check()
def invalid_labels(facts: Evidence) -> list[Suspicion]:
    """Class numbers outside the classes, or one single label."""
    counts, outputs = facts.train.counts, facts.outputs
    if not counts or (facts.loop.losses and not facts.usual_targets):
        return []
    low, high = min(counts), max(counts)
    classes = outputs.shape[1] if outputs is not None and facts.loss.task == "classes" and outputs.ndim > 1 else 0
    ignored = getattr(facts.program and facts.program.loss, "ignore_index", -100)
    outside = sum(
        n for label, n in counts.items() if label != ignored and (label < 0 or (classes and label >= classes))
    )
    figures = {"labels": f"{low} .. {high}", "different": len(counts), "rows": sum(counts.values())}
    failed = facts.loop.error is not None and "out of bounds" in str(facts.loop.error).lower()
    if (outside and classes) or failed:
        summary = f"labels from {low} to {high}" + (f" for {classes} outputs" if classes else "") + " do not fit"
        return [LABELS_INVALID.suspect("data", summary, figures, True, "critical")]
    if len(counts) == 1 and sum(counts.values()) >= 20 and facts.loss.task == "classes":
        others = len(facts.val.counts) if facts.val else 0
        if facts.program is None and others < 2:
            return []  # the place of the right one among negative ones, say
        summary = f"all {sum(counts.values())} training labels are {low}" + (
            f", while the validation data have {others} different ones" if others > 1 else ""
        )
        return [LABELS_INVALID.suspect("data", summary, figures, True, "critical")]
    return []


@LABELS_INVALID.check()
def beyond_shares(facts: Evidence) -> list[Suspicion]:
    """Targets beyond 0 and 1 for a loss that takes them for shares, or for the answers yes and no."""
    targets = facts.targets
    if facts.loss.task != "quantity" or facts.loss.kind not in ("logits", "probabilities") or targets is None:
        return []
    low, high = float(targets.min()), float(targets.max())
    if low >= 0 and high <= 1:
        return []
    figures = {"targets": f"{low:.4g} .. {high:.4g}", "loss": "of two classes"}
    summary = f"targets run from {low:.4g} to {high:.4g}, and the loss takes them for shares between 0 and 1"
    cures = (remedies.targets_as_shares(low, high),)
    return [LABELS_INVALID.suspect("data", summary, figures, True, "critical", cures)]


INPUTS_NOT_NORMALIZED = Rule(
    f"""LH101 inputs-not-normalized: the inputs' scale or offset is far from what the first layer's initialization
    assumes
    Why: A layer's usual weights keep the scale of inputs of mean 0 and deviation 1. Other scales make the first layer's
    gradient large or small by the same factor, and its curvature by the square; an offset makes all its weights move
    together.
    Threshold: root mean square of the inputs above {LARGE:g} or below {SMALL:g}, a mean of {LARGE:g} deviations or
    more, or columns apart by {APART:g} in scale; {PAYS}; watched, it counts where units are flat or the loss is lost or
    does not fall
    Source: LeCun et al. 1998, Efficient BackProp, section 4.3
    Remedy: standardize the inputs with the training data's mean and deviation
    Example: mean, std = x_train.mean(0), x_train.std(0)
    x = (x - mean) / std  # also for validation data""",
    rank=1,
    joint=True,
    explains=(*AFTERMATH, "does-not-learn", "learning-rate-too-high"),
)


@INPUTS_NOT_NORMALIZED.check()
def input_scale(facts: Evidence) -> list[Suspicion]:
    """Inputs far from zero mean and unit deviation."""
    x = facts.train.inputs
    if x is None or not x.std:
        return []
    offset = abs(x.mean) / x.std
    if SMALL <= x.rms <= LARGE and x.spread <= APART and offset <= LARGE:
        return []
    figures = {"mean": x.mean, "deviation": x.std, "least": x.low, "largest": x.high, "columns apart": x.spread}
    summary = f"inputs run from {x.low:.4g} to {x.high:.4g}, with mean {x.mean:.4g} and deviation {x.std:.4g}"
    cures = [remedies.standardize_inputs(x.whole)]
    if _by_column(x) and x.spread > 3:
        cures.insert(0, remedies.standardize_inputs(x.columns))
    return [INPUTS_NOT_NORMALIZED.suspect("data", summary, figures, remedies=tuple(cures))]


def _by_column(x: Columns) -> bool:
    return len(x.shape) == 1 and x.columns.mean.numel() == x.shape[0]


@INPUTS_NOT_NORMALIZED.check("unchanged")
def unlike_standardized(_: Evidence, run: Unchanged) -> list[Suspicion]:
    """Inputs of a script that are not near mean 0 and deviation 1."""
    mean, std = run.inputs[0] or (0.0, 1.0)
    if abs(mean) + abs(std - 1) <= 0.5:
        return []
    return [INPUTS_NOT_NORMALIZED.tried_with("data", remedies.inputs_standardized())]


TARGETS_NOT_NORMALIZED = Rule(
    f"""LH102 targets-not-normalized: regression targets whose scale or offset the output layer cannot reach in the time
    given
    Why: An output layer starts near 0 with outputs of about 1. With an Adam-like optimizer a weight moves by about the
    learning rate an update, whatever the loss; with plain gradient descent the first gradient grows with the targets.
    Threshold: root mean square of the targets above {LARGE:g} or below {SMALL:g}; {PAYS}; or the whole reach of an
    Adam-like optimizer (steps x rate) is under a {BEYOND_REACH:g}th of their distance
    Source: Kingma & Ba 2015, Adam, section 2.1
    Remedy: standardize the targets for the loss, and undo it on the model's answers
    Example: mean, std = y_train.mean(0), y_train.std(0)
    loss = criterion(outputs, (y - mean) / std)
    answer = outputs * std + mean""",
    rank=3,
    joint=True,
)


@TARGETS_NOT_NORMALIZED.check("unchanged")
def units_of_targets(_: Evidence, run: Unchanged) -> list[Suspicion]:
    """A script's loss of quantities."""
    if not set(run.losses) & set(remedies.QUANTITIES):
        return []
    return [TARGETS_NOT_NORMALIZED.tried_with("data", remedies.targets_standardized())]


@TARGETS_NOT_NORMALIZED.check()
def target_scale(facts: Evidence) -> list[Suspicion]:
    """Regression targets far from zero mean and unit deviation."""
    y, outputs = facts.train.targets, facts.outputs
    if y is None or outputs is None or facts.loss.task != "quantity" or not facts.usual_targets or not y.std:
        return []
    if facts.targets is None or outputs.shape != facts.targets.shape:
        return []
    if facts.loss.not_minimal_at_target:  # a loss of counts, say, which means nothing for other units
        return []
    theirs = facts.val.targets if facts.val else None
    if theirs is not None and theirs.std and apart(y, theirs):
        return []  # validation has other units: that comes first
    if SMALL <= y.rms <= LARGE:
        return []
    reach = _reach(facts)
    certain = math.hypot(y.mean - float(outputs.double().mean()), y.std) > BEYOND_REACH * reach
    figures = {"mean": y.mean, "deviation": y.std, "least": y.low, "largest": y.high}
    summary = f"targets run from {y.low:.4g} to {y.high:.4g}, with mean {y.mean:.4g} and deviation {y.std:.4g}"
    if certain:
        figures["within reach"] = reach
        summary += f"; in {facts.updates} updates the outputs can move by about {reach:.3g}"
    cure = remedies.standardize_targets(y.columns if len(y.shape) < 2 else y.whole)
    return [TARGETS_NOT_NORMALIZED.suspect("data", summary, figures, certain, "critical", (cure,))]


def _reach(facts: Evidence) -> float:
    """How far the last layer can move an output: an Adam-like update changes a weight by about its rate at most."""
    optimizer = facts.optimizers[0]
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


NO_SHUFFLE = Rule(
    f"""LH107 no-shuffle: batches come in an order that biases the updates
    Why: An update from one class only moves the output's bias; sorted batches make the network forget class after
    class.
    Threshold: batches repeat in one order and their mean labels vary {ORDERED:g} times as much as those of random
    batches; {PAYS}; watched, class numbers of whose variance {100 * PURE:.0f} % lies between batches, while the means
    of batches that follow each other differ by {ALIKE:g} of what they would in a random order or less
    Remedy: shuffle=True in the training loader
    Example: DataLoader(data, batch_size=..., shuffle=True)""",
    explains=(
        *("dropout-too-strong", "learning-rate-too-high", "learning-rate-too-low", "overfitting", "does-not-learn"),
        "stale-running-statistics",
    ),
)


@NO_SHUFFLE.check()
def unshuffled(facts: Evidence) -> list[Suspicion]:
    """Batches in one order, sorted by their targets."""
    ratio = ordered(facts.train)
    if not facts.train.fixed_order or ratio < ORDERED:
        return []
    figures = {"variance of batch means, by that of random batches": ratio}
    summary = f"each epoch has the same order, and batches differ {ratio:.0f} times as much as random ones"
    cure = remedies.batches(None, "batches drawn at random")
    return [NO_SHUFFLE.suspect("data", summary, figures, remedies=(cure,))]


@NO_SHUFFLE.check("history")
def in_runs(facts: Evidence, history: History) -> list[Suspicion]:
    """Batches of a script whose class numbers hardly change from one to the next, and change over many."""
    means, ratio = torch.tensor(facts.train.batch_means, dtype=torch.float64), ordered(facts.train)
    if not facts.train.counts or facts.loss.task != "classes" or ratio < ORDERED:
        return []
    if float(means.var()) < PURE * facts.train.target_std**2:
        return []  # labels that drift, as those that a policy draws
    if float(means.diff().square().mean()) > 2 * ALIKE * float(means.var()):  # twice the variance, of random ones
        return []
    figures = {"variance of batch means, by that of random batches": ratio}
    summary = f"batches follow each other with like labels, and differ {ratio:.0f} times as much as random ones"
    return [NO_SHUFFLE.suspect("data", summary, figures, True, "critical")]


LABELS_CORRUPTED = Rule(
    f"""LH103 labels-corrupted: labels do not belong to their inputs, or a large share of them is wrong
    Why: If labels have nothing to do with their inputs, rows that lie close together share them by chance only. The
    comparison of training with validation data is scale-free; a permutation gives the level of chance. Rows of whole
    numbers are compared by the symbols that they hold, once as a text and once as a table. Where neighbours agree more
    often than by chance, training without the rows that disagree is tried (Wilson 1972, Asymptotic properties of
    nearest neighbor rules using edited data, section III).
    Threshold: rows near to each other share their label less than {AGREE:g} times as often, beyond chance, as in
    validation data; or the labels are learnt, validation stays at the level of a constant answer, and neighbours agree
    by chance alone; of a script, the last, and a training loss less than {100 * LEARNT:.0f} % under a constant
    answer's, or validation at its level
    Source: Cover & Hart 1967, Nearest neighbor pattern classification
    Remedy: align the labels with their inputs again; look at a few rows with their labels
    Example: x, y = x[order], y[order]  # one order for both"""
)


@LABELS_CORRUPTED.check()
def corrupted_labels(facts: Evidence) -> list[Suspicion]:
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
    figures = {"neighbours agree in training": ours[0], "in validation": theirs[0], "by chance": ours[1]}
    if theirs[0] - theirs[1] > 0.3 + error and low < AGREE * (theirs[0] - theirs[1]) - error:
        summary = (
            f"rows close to each other share their label in {100 * ours[0]:.0f} % of the training data, "
            f"but in {100 * theirs[0]:.0f} % of the validation data ({100 * ours[1]:.0f} % is chance)"
        )
        cures: tuple[remedies.Remedy, ...] = ()
        if low > error and len(facts.train.kept[0]) == facts.train.rows:  # what the neighbours say is worth something
            cures = (remedies.rows_like_their_neighbours(*facts.train.kept, facts.train.sizes[0]),)
        return [LABELS_CORRUPTED.suspect("data", summary, figures, True, "critical", cures)]
    return []


@LABELS_CORRUPTED.check("base")
def learnt_by_heart(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Labels that say nothing about their inputs: no better than a constant answer, and neighbours do not agree."""
    if facts.train.kept is None or facts.loss.task != "classes" or not facts.usual_targets:
        return []
    if facts.train.kept[1].is_floating_point() or len(facts.train.counts) < 2 or base.diverged:
        return []
    ours = agreement(*facts.train.kept)
    fell = base.first_loss - base.train_loss > LEARNT * abs(base.first_loss)
    if ours is None or facts.gain(facts.floor, base.score) > 0.05 or ours[0] > ours[1] + 3 * ours[2] or not fell:
        return []
    figures = {"score": base.score, "constant answer": facts.floor, "neighbours agree": ours[0], "by chance": ours[1]}
    summary = "the training labels are learnt by heart, and nothing carries over to validation: they fit no input"
    return [LABELS_CORRUPTED.suspect("data", summary, figures, True, "critical")]


@LABELS_CORRUPTED.check("history")
def strangers(facts: Evidence, history: History) -> list[Suspicion]:
    """Rows of a script whose neighbours have their labels by chance, and whose loss is near a constant answer's."""
    return _strange(facts, history, learnt=False)


@LABELS_CORRUPTED.check("history")
def by_heart(facts: Evidence, history: History) -> list[Suspicion]:
    """The same of rows that are learnt: it is a fault if that carries over to no other row."""
    return _strange(facts, history, learnt=True)


def _strange(facts: Evidence, history: History, *, learnt: bool) -> list[Suspicion]:
    ends, kept = history.ends, facts.train.kept
    if kept is None or kept[1].is_floating_point() or ends is None:
        return []
    shares = kept[1].unique(return_counts=True)[1].double() / len(kept[1])
    if len(shares) < 2:
        return []
    if (ends[1] < (1 - LEARNT) * min(ends[0], -float((shares * shares.log()).sum()))) is not learnt:
        return []
    ours = agreement(*kept)
    if ours is None or ours[0] > ours[1] + 3 * ours[2]:
        return []
    figures = {"neighbours agree": ours[0], "by chance": ours[1], "loss at first": ends[0], "at last": ends[1]}
    summary = (
        f"rows close to each other share their label in {100 * ours[0]:.0f} % of the training data, as by chance, and "
        f"the loss went from {ends[0]:.4g} to {ends[1]:.4g}"
    )
    return [LABELS_CORRUPTED.suspect("data", summary, figures, not learnt, "warning")]


@NON_FINITE_DATA.check("history")
def lost_inputs(facts: Evidence, history: History) -> list[Suspicion]:
    """NaN or infinity in the inputs of an update that was watched."""
    if history.input_lost_at < 0:
        return []
    at = history.input_lost_at + 1
    summary = f"the inputs of update {at} hold NaN or infinity"
    return [NON_FINITE_DATA.suspect("data", summary, {"first at update": at}, True, "critical")]


RULES = (NON_FINITE_DATA, LABELS_INVALID, TARGETS_NOT_NORMALIZED, INPUTS_NOT_NORMALIZED, NO_SHUFFLE, LABELS_CORRUPTED)
