"""Rules judge evidence: each names a suspected cause, its place, what speaks for it, and the remedies to try."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from levelhead.doctor.evidence import Evidence
from levelhead.doctor.findings import Finding, Severity
from levelhead.doctor.program import ProgramError
from levelhead.doctor.remedies import Remedy
from levelhead.doctor.rules import (
    capacity,
    data,
    evaluation,
    loop,
    loss,
    network,
    normalization,
    optimization,
    output,
    preparation,
    weights,
)
from levelhead.doctor.rules.rule import Rule, Suspicion

#: Every rule by its cause, in the order in which a fault is upstream of others.
RULES: dict[str, Rule] = {
    rule.cause: rule
    for file in (
        preparation,
        data,
        loop,
        evaluation,
        output,
        loss,
        weights,
        network,
        normalization,
        optimization,
        capacity,
    )
    for rule in file.RULES
}

Wanted = Callable[[str], bool]


def suspicions(facts: Evidence, trained: bool | None = None, last: bool = False) -> list[Suspicion]:
    """What the evidence raises, the first of each cause and place, in the rules' order.

    Args:
        facts: the evidence.
        trained: only what needs to have seen a training (True), or what does not (False).
        last: the rules that are asked only where nothing else was found.
    """
    found: dict[tuple[str, str], Suspicion] = {}
    for rule in RULES.values():
        for check in rule.checks if rule.last is last else ():
            if trained is None or ("base" in check.needs) is trained:
                for suspicion in check(facts):
                    found.setdefault((suspicion.cause, suspicion.where), suspicion)
    return list(found.values())


def chosen(select: Collection[str], ignore: Collection[str]) -> Wanted:
    """Whether a cause is wanted.

    Args:
        select: causes or codes (or beginnings of codes) to look for; all of them where there is none.
        ignore: the same, to leave out.

    Raises:
        ProgramError: there is no such rule.
    """
    known = set(RULES) | {rule.code[:i] for rule in RULES.values() for i in (2, 3, 4, 5)}
    for name in (*select, *ignore):
        if name not in known and name.upper() not in known:
            raise ProgramError(
                f"no rule {name!r}; give a code (LH304), its beginning (LH3), or a cause (output-mismatch)"
            )

    def named(cause: str, names: Collection[str]) -> bool:
        return any(cause == name or RULES[cause].code.startswith(name.upper()) for name in names)

    return lambda cause: (not select or named(cause, select)) and not named(cause, ignore)


def finding(
    suspicion: Suspicion,
    severity: Severity | None = None,
    figures: dict[str, Any] | None = None,
    symptoms: tuple[str, ...] = (),
    remedy: Remedy | None = None,
) -> Finding:
    """The finding that a suspicion has become."""
    rule = RULES[suspicion.cause]
    best = remedy or (suspicion.remedies[0] if suspicion.remedies else None)
    return Finding(
        code=rule.code,
        cause=rule.cause,
        where=suspicion.where,
        severity=severity or suspicion.severity,
        summary=suspicion.summary,
        evidence=suspicion.figures | (figures or {}),
        threshold=rule.limit,
        symptoms=symptoms,
        remedy=rule.remedy,
        patch=best.patch if best else "",
        meaning=rule.meaning,
    )


__all__ = ["RULES", "Rule", "Suspicion", "Wanted", "chosen", "finding", "suspicions"]
