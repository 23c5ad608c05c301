"""What a rule hands to the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from levelhead.doctor.causes import CAUSES
from levelhead.doctor.findings import Finding, Severity
from levelhead.doctor.remedies import Remedy


@dataclass(frozen=True)
class Suspicion:
    """A suspected cause.

    Args:
        cause: its name.
        where: a module's name, or ``data``, ``loss``, ``optimizer`` or ``loop``.
        summary: what was seen, in a sentence.
        evidence: the figures.
        certain: whether what was seen is itself the fault; otherwise it counts only if a remedy pays.
        severity: of a certain one.
        remedies: what may mend it, the likeliest first.
        generic: whether nothing but the outcome of its remedy speaks for it.
        gain: the least gain of a remedy at which an uncertain one counts.
        fits: whether the remedy must also lower the training loss.
        measured: a gain that was measured without training anew.
        trained: whether it comes from a rule that has seen the program train.
    """

    cause: str
    where: str
    summary: str
    evidence: dict[str, Any] = field(default_factory=dict)
    certain: bool = False
    severity: Severity = "warning"
    remedies: tuple[Remedy, ...] = ()
    generic: bool = False
    gain: float = 0.1
    fits: bool = False
    measured: float | None = None
    trained: bool = False

    def finding(
        self, severity: Severity, evidence: dict[str, Any], symptoms: tuple[str, ...], remedy: Remedy | None
    ) -> Finding:
        """The finding that this suspicion has become."""
        cause = CAUSES[self.cause]
        chosen = remedy or (self.remedies[0] if self.remedies else None)
        return Finding(
            code=cause.code,
            cause=self.cause,
            where=self.where,
            severity=severity,
            summary=self.summary,
            evidence=self.evidence | evidence,
            threshold=cause.threshold,
            symptoms=symptoms,
            remedy=cause.remedy,
            patch=chosen.patch if chosen else "",
        )
