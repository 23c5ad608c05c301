"""Judges what a watch has seen by the same rules as an examination; what a found cause explains is its symptom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.watched import Watched
from levelhead.doctor.findings import SEVERITIES, Finding, Severity
from levelhead.doctor.rules import RULES, Suspicion, finding, suspicions
from levelhead.doctor.rules.optimization import FALL
from levelhead.doctor.rules.rule import LEARNT


def judge(seen: Watched, structure: Sequence[Suspicion]) -> tuple[Finding, ...]:
    """All findings, the most severe first and, of equal ones, that which lies further upstream.

    A suspicion that only a trial could prove is a warning where the training shows harm that it may have done, and a
    remark elsewhere.
    """
    placed = {s.cause for s in structure if s.certain and s.severity == "critical"}
    raised = [s for s in suspicions(seen) if s.cause not in placed] if seen.history.measured else []
    raised = [*raised, *(s for s in structure if (s.cause, s.where) not in {(r.cause, r.where) for r in raised})]
    if not any(s.certain and s.severity != "info" for s in raised) and seen.history.measured:
        raised += suspicions(seen, last=True)
    unproven: Severity = "warning" if _harmed(seen.history) else "info"
    proven = [s if s.certain else replace(s, severity=unproven) for s in raised]
    found = [replace(finding(s), evidence=_known(s.figures)) for s in proven]
    symptoms: dict[int, list[str]] = {id(f): [] for f in found if _root(f, found) is f}
    for each in found:
        if id(each) not in symptoms:
            symptoms[id(_root(each, found))].append(each.summary)
    told = [replace(f, symptoms=tuple(symptoms[id(f)])) for f in found if id(f) in symptoms]
    return tuple(sorted(told, key=lambda f: SEVERITIES.index(f.severity)))


def _harmed(history: History) -> bool:
    """Whether the training shows harm that an unproven cause may have done."""
    stuck = [layer for m in (*history.measured[:4], *history.late) for layer in m.layers.values()]
    flat = any(max(layer.flat, 0.0) > 0.5 or max(layer.idle, 0.0) > 0.5 for layer in stuck[:-1])
    return history.loss_lost_at >= 0 or (flat and not history.fell > LEARNT) or history.fell < FALL


def _root(finding: Finding, found: Sequence[Finding]) -> Finding:
    """What a finding follows from in the end; itself where nothing explains it."""
    cause = next((each for each in found if _explains(each, finding)), None)
    return finding if cause is None else _root(cause, found)


def _explains(cause: Finding, symptom: Finding) -> bool:
    """Whether one follows from the other; a remark explains nothing that costs."""
    return symptom.cause in RULES[cause.cause].explains and (cause.severity != "info" or symptom.severity == "info")


def _known(figures: dict[str, Any]) -> dict[str, Any]:
    """Without the figures that a watch does not take."""
    return {
        name: value
        for name, value in figures.items()
        if not (isinstance(value, list) and value and all(isinstance(v, float) and math.isnan(v) for v in value))
    }
