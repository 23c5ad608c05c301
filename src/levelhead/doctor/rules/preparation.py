"""Rules on training and validation data that are not prepared alike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.isolation import Change, clone
from levelhead.doctor.probes.data import Columns
from levelhead.doctor.probes.frequencies import difference
from levelhead.doctor.program import Program
from levelhead.doctor.rules.suspicion import Suspicion
from levelhead.doctor.trials import train

#: Deviations by which two samples of one population never differ; the gain of held-out rows over validation rows.
BEYOND, HELD_OUT = 10.0, 0.25


def validation_rows(facts: Facts) -> list[Suspicion]:
    """Validation rows on another scale than the training rows or, where they are not, of another population."""
    return preparation(facts) or other_units(facts) or another_population(facts)


def preparation(facts: Facts) -> list[Suspicion]:
    """Validation inputs on another scale than the training inputs."""
    a, b = facts.train.inputs, facts.val.inputs if facts.val else None
    base = facts.base
    if a is None or b is None or base is None or min(facts.train.rows, facts.val.rows if facts.val else 0) < 20:
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
    evidence = {
        "training mean and deviation": [a.mean, a.std],
        "validation mean and deviation": [b.mean, b.std],
        "score with validation inputs brought to the training scale": score,
    }
    summary = (
        f"training inputs have mean {a.mean:.3g} and deviation {a.std:.3g}, "
        f"validation inputs {b.mean:.3g} and {b.std:.3g}"
    )
    return [Suspicion("train-val-mismatch", "data", summary, evidence, remedies=(cure,), measured=gain)]


def other_units(facts: Facts) -> list[Suspicion]:
    """Validation targets on another scale than the training targets."""
    a, b = facts.train.targets, facts.val.targets if facts.val else None
    if a is None or b is None or facts.loss.task != "quantity" or not facts.usual_targets or not a.std or not b.std:
        return []
    if min(facts.train.rows, facts.val.rows if facts.val else 0) < 20 or not apart(a, b):
        return []
    cure = remedies.targets_like_validation(a.mean, a.std, b.mean, b.std)
    evidence = {"training mean and deviation": [a.mean, a.std], "validation mean and deviation": [b.mean, b.std]}
    summary = (
        f"training targets have mean {a.mean:.3g} and deviation {a.std:.3g}, "
        f"validation targets {b.mean:.3g} and {b.std:.3g}"
    )
    return [Suspicion("train-val-mismatch", "data", summary, evidence, remedies=(cure,))]


def apart(a: Columns, b: Columns) -> bool:
    """Deviations apart by a factor of 2, or means by a deviation."""
    return not 0.5 < b.std / a.std < 2 or abs(b.mean - a.mean) >= max(a.std, b.std)


def another_population(facts: Facts) -> list[Suspicion]:
    """Validation rows whose columns are distributed otherwise, and on which the model fails as on no held-out row."""
    ours, theirs, base = facts.train.kept, facts.val.kept if facts.val else None, facts.base
    if ours is None or theirs is None or base is None or base.diverged or base.error is not None:
        return []
    if not facts.usual_targets:
        return []
    found = difference(ours[0], theirs[0])
    if found is None or found[0] < BEYOND or facts.room(base.score) < HELD_OUT:
        return []
    held = train(facts.program, _held_out(*ours, facts.train.sizes[0]), updates=base.updates, seconds=2 * base.seconds)
    gain = facts.gain(base.score, held.score)
    if gain < HELD_OUT:
        return []
    evidence = {
        "distance of the columns' frequencies, in deviations": found[0],
        "largest in column": found[1],
        "score on validation rows": base.score,
        "score on training rows that were held out": held.score,
    }
    summary = (
        f"what was learnt holds for training rows that were held out (score {held.score:.3f}) and not for validation "
        f"rows ({base.score:.3f}), whose column {found[1]} is distributed otherwise"
    )
    return [Suspicion("train-val-mismatch", "data", summary, evidence, True, "critical")]


def _held_out(inputs: Tensor, targets: Tensor, size: int) -> Change:
    """Four fifths of the training rows to train on, the rest to validate."""

    def change(program: Program) -> None:
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)).to(inputs.device)
        cut = len(order) * 4 // 5
        kept, held = (TensorDataset(inputs[rows], targets[rows]) for rows in (order[:cut], order[cut:]))
        program.train = DataLoader(kept, batch_size=size, shuffle=True)
        program.val = DataLoader(held, batch_size=256)

    return change


TRAINED = (validation_rows,)
