"""Rules on the evaluation: what is on that should be off."""

from __future__ import annotations

from typing import Any

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.isolation import clone
from levelhead.doctor.probes.structure import BATCH_NORM
from levelhead.doctor.rules.suspicion import Suspicion


def train_in_eval(facts: Facts) -> list[Suspicion]:
    """Dropout or batch statistics are on during evaluation."""
    names = facts.evaluation.training
    if not names:
        return []
    modules: dict[str, Any] = dict(facts.program.model.named_modules())
    norms = [name for name in names if isinstance(modules[name], BATCH_NORM)]
    evidence = {"in training mode during evaluation": names[:12]}
    what = "batch normalizations use the batch's own statistics" if norms else "dropouts drop values"
    summary = f"during evaluation {len(norms or names)} {what}"
    cure = remedies.standard_evaluation()
    return [Suspicion("train-mode-in-eval", "loop", summary, evidence, True, "warning", (cure,))]


def functional_dropout(facts: Facts) -> list[Suspicion]:
    """Dropout as a function that nobody has turned off for the evaluation."""
    base = facts.base
    if base is None or base.diverged or base.error is not None or facts.evaluation.training:
        return []
    if not facts.evaluation.dropped:
        return []
    cure = remedies.without_functional_dropout()
    steady = clone(base.program)
    cure(steady)
    score = steady.final_score()
    evidence = {"calls in one evaluation": facts.evaluation.dropped, "score": base.score, "score without": score}
    summary = f"dropout is called {facts.evaluation.dropped} times during evaluation, as a function that is left on"
    gain = facts.gain(base.score, score)
    return [Suspicion("train-mode-in-eval", "loop", summary, evidence, remedies=(cure,), measured=gain)]


RULES = (train_in_eval,)
TRAINED = (functional_dropout,)
