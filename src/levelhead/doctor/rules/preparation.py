"""Rules on training and validation data that are not prepared alike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Unchanged
from levelhead.doctor.evidence.data import Columns
from levelhead.doctor.evidence.tables import difference, relation
from levelhead.doctor.isolation import Change, clone
from levelhead.doctor.program import Program
from levelhead.doctor.rules.rule import Rule, Suspicion
from levelhead.doctor.trials import Outcome, train

#: How far deviations are apart that no sample explains.
TIMES = 2.0
#: Deviations by which two samples of one population never differ; the gain of held-out rows over validation rows.
BEYOND, HELD_OUT = 10.0, 0.25
#: A correlation with the targets from which on a column tells something.
TOLD = 0.5


TRAIN_VAL_MISMATCH = Rule(
    f"""LH105 train-val-mismatch: training and validation data are prepared differently
    Why: A model is only asked what it has learnt if both data sets are prepared alike. The rule maps the validation
    inputs to the training data's mean and deviation and scores again: if that wins, the preparation was the fault.
    Targets in other units are told in the same way: the training targets are brought to the validation targets' scale.
    Where scales agree, rows are compared column by column (up to 256 of them, at equal distances), whole numbers as
    categories and other values in ten classes, by Pearson's chi-square for two samples; if they differ, four fifths of
    the training rows are trained on and the rest scored. Another encoding or order of columns fails on the validation
    rows alone; overfitting fails on held-out training rows as well. A mean of the targets over a training row's own
    group, itself included, tells its target, and no other row's.
    Threshold: deviations of inputs or targets apart by a factor of {TIMES:g}, or means by a deviation; or frequencies
    of columns {BEYOND:g} deviations apart, and held-out training rows {100 * HELD_OUT:.0f} % of the way better than
    validation rows; or no label in common; of a script, a column that is distributed alike, with a correlation with the
    targets of {TOLD:g} in training, {BEYOND:g} deviations from that in evaluations, which is half of it at most
    Source: Pearson 1900, On the criterion, for the frequencies; Fisher 1921, for the correlations
    Remedy: prepare both with the same function, fitted on the training data alone
    Example: x_val = (x_val - mean) / std  # mean and std of x_train"""
)


@TRAIN_VAL_MISMATCH.check("unchanged")
def evaluated_apart(_: Evidence, run: Unchanged) -> list[Suspicion]:
    """Inputs of a script's evaluations that lie elsewhere than those of its training, or are spread otherwise."""
    train, val = run.inputs
    if not run.validated or train is None or val is None:
        return []
    if abs(train[0] - val[0]) <= 0.5 * train[1] and 0.5 < val[1] / train[1] < 2:
        return []
    return [TRAIN_VAL_MISMATCH.tried_with("data", remedies.validation_like_training(*train, *val))]


@TRAIN_VAL_MISMATCH.check()
def disjoint_labels(facts: Evidence) -> list[Suspicion]:
    """No label in common between training and validation data."""
    if facts.val is None or not facts.train.counts or not facts.val.counts or not facts.usual_targets:
        return []
    ours, theirs = set(facts.train.counts), set(facts.val.counts)
    if ours & theirs or len(ours) < 2:
        return []
    figures = {"training labels": sorted(ours)[:12], "validation labels": sorted(theirs)[:12]}
    summary = "training and validation data have no label in common"
    return [TRAIN_VAL_MISMATCH.suspect("data", summary, figures, True, "critical")]


@TRAIN_VAL_MISMATCH.check("history")
def leaking(facts: Evidence, _: object) -> list[Suspicion]:
    """A column that tells the target in the training rows of a script, and not in those of its evaluations."""
    ours, theirs = facts.train.kept, facts.val.kept if facts.val else None
    found = relation(ours, theirs) if ours is not None and theirs is not None else None
    if found is None or ours is None or theirs is None:
        return []
    far, i, here, there = found
    if far < BEYOND or abs(here) < TOLD or abs(there) > abs(here) / TIMES:
        return []
    std, mean = torch.std_mean(ours[0][:, i].double())
    other, middle = torch.std_mean(theirs[0][:, i].double())
    if not 1 / TIMES < other / std < TIMES or abs(middle - mean) >= max(std, other):
        return []  # its values are others, too: what they say may be
    figures = {"column": i, "correlation in training": here, "in evaluations": there, "in deviations": far}
    summary = f"column {i} has a correlation of {here:.2f} with the training targets, and {there:.2f} in evaluations"
    return [TRAIN_VAL_MISMATCH.suspect("data", summary, figures, True, "warning")]


@TRAIN_VAL_MISMATCH.check("base")
def validation_rows(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Validation rows on another scale than the training rows or, where they are not, of another population."""
    return preparation(facts, base) or other_units(facts) or another_population(facts, base)


def preparation(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Validation inputs on another scale than the training inputs."""
    a, b = facts.train.inputs, facts.val.inputs if facts.val else None
    if a is None or b is None or min(facts.train.rows, facts.val.rows if facts.val else 0) < 20:
        return []
    if not a.std or not b.std:
        return []
    if not apart(a, b):
        return []
    cure = remedies.validation_like_training(a.mean, a.std, b.mean, b.std)
    mapped = clone(base.program)
    cure(mapped)
    try:
        score = mapped.final_score()
    except Exception:
        return []
    gain = facts.gain(base.score, score)
    figures = {
        "training mean and deviation": [a.mean, a.std],
        "validation mean and deviation": [b.mean, b.std],
        "score with validation inputs brought to the training scale": score,
    }
    summary = (
        f"training inputs have mean {a.mean:.3g} and deviation {a.std:.3g}, "
        f"validation inputs {b.mean:.3g} and {b.std:.3g}"
    )
    return [TRAIN_VAL_MISMATCH.suspect("data", summary, figures, remedies=(cure,), measured=gain)]


def other_units(facts: Evidence) -> list[Suspicion]:
    """Validation targets on another scale than the training targets."""
    a, b = facts.train.targets, facts.val.targets if facts.val else None
    if a is None or b is None or facts.loss.task != "quantity" or not facts.usual_targets or not a.std or not b.std:
        return []
    if min(facts.train.rows, facts.val.rows if facts.val else 0) < 20 or not apart(a, b):
        return []
    cure = remedies.targets_like_validation(a.mean, a.std, b.mean, b.std)
    figures = {"training mean and deviation": [a.mean, a.std], "validation mean and deviation": [b.mean, b.std]}
    summary = (
        f"training targets have mean {a.mean:.3g} and deviation {a.std:.3g}, "
        f"validation targets {b.mean:.3g} and {b.std:.3g}"
    )
    return [TRAIN_VAL_MISMATCH.suspect("data", summary, figures, remedies=(cure,))]


def apart(a: Columns, b: Columns) -> bool:
    """Deviations apart by a factor of 2, or means by a deviation."""
    return not 1 / TIMES < b.std / a.std < TIMES or abs(b.mean - a.mean) >= max(a.std, b.std)


def another_population(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Validation rows whose columns are distributed otherwise, and on which the model fails as on no held-out row."""
    ours, theirs = facts.train.kept, facts.val.kept if facts.val else None
    if ours is None or theirs is None or base.diverged or base.error is not None:
        return []
    if not facts.usual_targets:
        return []
    found = difference(ours[0], theirs[0])
    if found is None or found[0] < BEYOND or facts.room(base.score) < HELD_OUT:
        return []
    assert facts.program is not None
    held = train(facts.program, _held_out(*ours, facts.train.sizes[0]), updates=base.updates, seconds=2 * base.cost)
    gain = facts.gain(base.score, held.score)
    if gain < HELD_OUT:
        return []
    figures = {
        "distance of the columns' frequencies, in deviations": found[0],
        "largest in column": found[1],
        "score on validation rows": base.score,
        "score on training rows that were held out": held.score,
    }
    summary = (
        f"what was learnt holds for training rows that were held out (score {held.score:.3f}) and not for validation "
        f"rows ({base.score:.3f}), whose column {found[1]} is distributed otherwise"
    )
    return [TRAIN_VAL_MISMATCH.suspect("data", summary, figures, True, "critical")]


def _held_out(inputs: Tensor, targets: Tensor, size: int) -> Change:
    """Four fifths of the training rows to train on, the rest to validate."""

    def change(program: Program) -> None:
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)).to(inputs.device)
        cut = len(order) * 4 // 5
        kept, held = (TensorDataset(inputs[rows], targets[rows]) for rows in (order[:cut], order[cut:]))
        program.train = DataLoader(kept, batch_size=size, shuffle=True)
        program.val = DataLoader(held, batch_size=256)

    return change


RULES = (TRAIN_VAL_MISMATCH,)
