"""What the rules of a watch share."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any

from levelhead.doctor.causes import CAUSES
from levelhead.doctor.findings import Finding, Severity
from levelhead.doctor.watching.history import Measured

if TYPE_CHECKING:
    from levelhead.doctor.watching.observer import watch

#: Updates before which a trend is not judged.
SOON = 100


def finding_of(
    cause: str, where: str, severity: Severity, summary: str, evidence: dict[str, Any], threshold: str, patch: str = ""
) -> Finding:
    """A finding with the code and the remedy of its cause."""
    known = CAUSES[cause]
    return Finding(known.code, cause, where, severity, summary, evidence, threshold, (), known.remedy, patch)


def late(seen: watch) -> list[Measured]:
    """The last quarter of the measured steps, four at least; nothing before that."""
    measured = seen.history.measured
    return measured[-max(4, len(measured) // 4) :] if len(measured) >= 4 else []


def early(seen: watch) -> list[Measured]:
    """The first measured steps."""
    return seen.history.measured[:4]


def share_of(steps: list[Measured], name: str, what: str) -> float:
    """The median of a layer's share over some steps."""
    values = [getattr(m.layers[name], what) for m in steps if name in m.layers]
    finite = [v for v in values if math.isfinite(v)]
    return median(finite) if finite else math.nan


def worst_of(seen: watch, what: str, steps: list[Measured]) -> tuple[str, float] | None:
    """The layer with the largest share, and that share."""
    names = dict.fromkeys(name for m in steps for name in m.layers)
    shares = {name: share_of(steps, name, what) for name in names}
    finite = {name: share for name, share in shares.items() if math.isfinite(share)}
    return max(finite.items(), key=lambda pair: pair[1]) if finite else None


def place_of(name: str) -> str:
    """The module that a figure belongs to."""
    return name.removeprefix("input of ")
