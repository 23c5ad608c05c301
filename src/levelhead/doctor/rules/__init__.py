"""Rules judge what the probes measured: each names a suspected cause, its evidence, and the remedies to try."""

from __future__ import annotations

from collections.abc import Callable

from levelhead.doctor.facts import Facts
from levelhead.doctor.rules import (
    answers,
    capacity,
    data,
    evaluation,
    loop,
    loss,
    network,
    normalization,
    optimization,
    preparation,
    weights,
)
from levelhead.doctor.rules.suspicion import Suspicion

Rule = Callable[[Facts], list[Suspicion]]

#: All rules that need no training, in the order in which a fault is upstream of others.
RULES: tuple[Rule, ...] = (
    *data.RULES,
    *loop.RULES,
    *evaluation.RULES,
    *loss.RULES,
    *answers.RULES,
    *weights.RULES,
    *network.RULES,
    *normalization.RULES,
)
#: Rules that need to have seen the program train.
TRAINED: tuple[Rule, ...] = (
    *preparation.TRAINED,
    *data.TRAINED,
    *evaluation.TRAINED,
    *loss.TRAINED,
    *normalization.TRAINED,
    *optimization.TRAINED,
    *capacity.TRAINED,
)

__all__ = ["RULES", "TRAINED", "Rule", "Suspicion"]
