"""Rules on the evaluation: what is on that should be off."""

from __future__ import annotations

from typing import Any

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.isolation import clone
from levelhead.doctor.probes.structure import BATCH_NORM
from levelhead.doctor.rules.suspicion import Suspicion

#: The gain without dropout from which on it is more than a matter of style.
LEAST = 0.1


def statistics_of_batches(facts: Facts) -> list[Suspicion]:
    """Batch statistics are taken during evaluation."""
    modules: dict[str, Any] = dict(facts.program.model.named_modules())
    norms = [name for name in facts.evaluation.training if isinstance(modules[name], BATCH_NORM)]
    if not norms:
        return []
    evidence = {"in training mode during evaluation": norms[:12]}
    summary = f"during evaluation {len(norms)} batch normalizations use the batch's own statistics"
    cure = remedies.standard_evaluation()
    return [Suspicion("train-mode-in-eval", "loop", summary, evidence, True, "warning", (cure,))]


def dropping(facts: Facts) -> list[Suspicion]:
    """Dropout during evaluation, and what the same model scores without: who means to average over it loses nothing."""
    base, seen = facts.base, facts.evaluation
    if base is None or base.diverged or base.error is not None or not (seen.dropped or seen.training):
        return []
    steady = clone(base.program)
    cure = remedies.without_dropout()
    cure(steady)
    score = steady.final_score()
    gain = facts.gain(base.score, score)
    evidence = {"calls in one evaluation": len(seen.dropped), "score": base.score, "score without": score}
    if seen.training:
        where, summary = "loop", f"during evaluation {len(seen.training)} dropouts drop values"
    else:
        where = seen.dropped[0] or "loop"
        summary = f"dropout is called {len(seen.dropped)} times during evaluation, as a function that is left on"
    if gain < LEAST:
        return [Suspicion("train-mode-in-eval", where, summary, evidence, True, "info", (cure,))]
    return [Suspicion("train-mode-in-eval", where, summary, evidence, remedies=(cure,), measured=gain)]


RULES = (statistics_of_batches,)
TRAINED = (dropping,)
