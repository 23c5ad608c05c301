"""Judges what a watch has seen. Rules of the examination are used where they need no trial; the others are here.

A watch tries nothing on copies, so its rules ask for more than those of an examination: a figure that is far off, or
a fault together with what it does. What a found cause explains is its symptom, not a second finding.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from levelhead.doctor.facts import Facts
from levelhead.doctor.findings import SEVERITIES, Finding
from levelhead.doctor.probes.loop import Call, Loop, Update
from levelhead.doctor.probes.loss import LossKind
from levelhead.doctor.rules import loop as loop_rules
from levelhead.doctor.rules import network as network_rules
from levelhead.doctor.rules import normalization as normalization_rules
from levelhead.doctor.rules.suspicion import Suspicion
from levelhead.doctor.watching import course, setup

if TYPE_CHECKING:
    from levelhead.doctor.watching.observer import watch

#: What each cause explains: these are then its symptoms.
EXPLAINS: dict[str, frozenset[str]] = {
    "non-finite-data": frozenset({"learning-rate-too-high", "poisoned-running-statistics", "output-mismatch"}),
    "gradient-ascent": frozenset(
        {"learning-rate-too-high", "poisoned-running-statistics", "dead-units", "saturating-activation"}
    ),
    "gradients-accumulate": frozenset(
        {"learning-rate-too-high", "poisoned-running-statistics", "dead-units", "saturating-activation"}
    ),
    "inputs-not-normalized": frozenset(
        {"learning-rate-too-high", "dead-units", "saturating-activation", "poisoned-running-statistics"}
    ),
    "learning-rate-too-high": frozenset(
        {"learning-rate-too-low", "dead-units", "saturating-activation", "poisoned-running-statistics"}
    ),
    "constant-init": frozenset({"dead-units", "learning-rate-too-low"}),
    "saturating-activation": frozenset({"learning-rate-too-low", "dead-units"}),
    "dead-units": frozenset({"learning-rate-too-low"}),
    "loss-detached": frozenset({"learning-rate-too-low", "parameters-not-trained"}),
    "eval-mode-in-training": frozenset({"stale-running-statistics"}),
}


def structure(seen: watch, calls: list[Call]) -> list[Finding]:
    """What the order of the modules in one forward pass shows."""
    facts = _facts(seen, calls)
    found = [*network_rules.linear_stack(facts), *normalization_rules.bias_before(facts)]
    return [_as_finding(suspicion) for suspicion in found]


def judge(seen: watch) -> tuple[Finding, ...]:
    """All findings, the most severe first and, of equal ones, that which lies further upstream."""
    facts = _facts(seen, [])
    found = [finding for rule in (*setup.RULES, *course.RULES) if (finding := rule(seen)) is not None]
    if seen.history.measured:
        found += [_as_finding(s) for rule in SHARED for s in rule(facts)]
    found += seen.structure or []
    kept: list[Finding] = []
    order = list(EXPLAINS)
    for finding in sorted(found, key=lambda f: order.index(f.cause) if f.cause in order else len(order)):
        cause = next((i for i, k in enumerate(kept) if finding.cause in EXPLAINS.get(k.cause, ())), None)
        if cause is None:
            kept.append(finding)
        else:
            kept[cause] = replace(kept[cause], symptoms=(*kept[cause].symptoms, finding.summary))
    return tuple(sorted(kept, key=lambda f: SEVERITIES.index(f.severity)))


def _as_finding(suspicion: Suspicion) -> Finding:
    """A shared rule's suspicion, without the figures that a watch does not take."""
    finding = suspicion.finding(suspicion.severity, {}, (), None)
    known = {name: value for name, value in finding.evidence.items() if not _unknown(value)}
    return replace(finding, evidence=known)


def _unknown(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, float) and math.isnan(v) for v in value)


def _facts(seen: watch, calls: list[Call]) -> Facts:
    """What the shared rules read, of what was watched."""
    moves = [m.move for m in seen.history.measured if math.isfinite(m.move)]
    groups = [group for optimizer in seen.optimizers for group in optimizer.param_groups]
    program = SimpleNamespace(model=seen.model, optimizer=SimpleNamespace(param_groups=groups))
    mode = {True} if not seen.history.eval_steps else {False} if not seen.history.training_steps else {True, False}
    looped = Loop(
        calls=calls,
        updates=[Update(math.nan, 1.0, math.nan, math.nan, math.nan, move) for move in moves],
        modes={**seen.modes, "": mode},
        reached=seen.reached,
        executed=seen.executed,
        ran=seen.executed,
    )
    unknown = LossKind("unknown", "", False)
    return cast(Facts, SimpleNamespace(program=program, watched=program, loop=looped, loss=unknown))


#: Rules of the examination that need no trial.
SHARED = (
    loop_rules.ascending,
    loop_rules.detached,
    loop_rules.eval_in_training,
    loop_rules.decay_on_norm,
    normalization_rules.poisoned,
)
