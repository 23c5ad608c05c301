"""What a rule is: the one record of a cause, of which findings, thresholds, choices and the page of rules are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from levelhead.doctor.findings import Severity
from levelhead.doctor.remedies import Remedy

if TYPE_CHECKING:
    from levelhead.doctor.evidence import Evidence

Group = Literal["data", "init", "architecture", "normalization", "loss", "optimization", "generalization"]
GROUPS: tuple[Group, ...] = (
    "data",
    "init",
    "architecture",
    "normalization",
    "loss",
    "optimization",
    "generalization",
)
#: The least gain of a repair that proves its cause, ours: a tenth parts collected faults (each costs 0.1 in score and
#: more) from the noise between seeds; where nothing but the outcome speaks for a cause, a quarter.
GAIN, LARGE_GAIN = 0.1, 0.25
#: What updates that are too large or point astray leave behind.
AFTERMATH = ("dead-units", "saturating-activation", "poisoned-running-statistics")
_WINS = "its repair, tried on a copy, wins at least {:.0f} % of the way from a constant answer to the repaired score"
PAYS, PAYS_MUCH = _WINS.format(100 * GAIN), _WINS.format(100 * LARGE_GAIN)


@dataclass(frozen=True)
class Suspicion:
    """A suspected cause.

    Args:
        cause: its rule's name of it.
        where: a module's name, or ``data``, ``loss``, ``optimizer`` or ``loop``.
        summary: what was seen, in a sentence.
        figures: what speaks for it, by name.
        certain: whether what was seen is itself the fault; otherwise it counts only if a remedy pays.
        severity: of a certain one.
        remedies: what may mend it, the likeliest first.
        generic: whether nothing but the outcome of its remedy speaks for it.
        gain: the least gain of a remedy at which an uncertain one counts.
        fits: whether the remedy must also lower the training loss.
        measured: a gain that was measured without training anew.
        rank: when it is tried, by its rule's if None.
    """

    cause: str
    where: str
    summary: str
    figures: dict[str, Any] = field(default_factory=dict)
    certain: bool = False
    severity: Severity = "warning"
    remedies: tuple[Remedy, ...] = ()
    generic: bool = False
    gain: float = GAIN
    fits: bool = False
    measured: float | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Check:
    """One way in which a cause shows.

    Args:
        judge: gives the suspicions that the evidence raises.
        needs: fields of the evidence without which it cannot judge; it then raises none.
    """

    judge: Callable[[Evidence], list[Suspicion]]
    needs: tuple[str, ...] = ()

    def __call__(self, facts: Evidence) -> list[Suspicion]:
        """The suspicions that the evidence raises."""
        return [] if any(getattr(facts, need) is None for need in self.needs) else self.judge(facts)


def check(*needs: str) -> Callable[[Callable[[Evidence], list[Suspicion]]], Check]:
    """Make a function a check: ``program`` is what an examination has, ``base`` a training, ``history`` a watch."""
    return lambda judge: Check(judge, needs)


@dataclass(frozen=True)
class Rule:
    """A fault that a person can mend, and how it is known.

    Args:
        code: ``LH101`` and so on; the first digit is the group's.
        cause: as findings carry it.
        meaning: what is wrong, in one sentence.
        why: what it does to a training, and what else the rule looks at.
        threshold: from when on it is a finding; written with the constants that its checks use.
        source: of the threshold.
        remedy: what to do, in words; ``example`` as code.
        checks: the ways in which it shows.
        explains: causes that follow from it, and are no findings of their own beside it.
        rank: suspicions of a lower one are tried first, and are the cause where another repair does as much.
        joint: whether its repair is tried together with others of this kind where none of them pays alone.
        in_company: whether it is among those tried together in a program that learns nothing.
        early: whether it shows in the first updates of a long training.
        slowness: whether it is learning that is too slow for its time: one such cause is enough.
        tried: whether the repair of what is only style is tried all the same.
        last: whether it is asked only where nothing else was found.
    """

    code: str
    cause: str
    meaning: str
    why: str
    threshold: str
    remedy: str
    checks: tuple[Check, ...]
    source: str = ""
    example: str = ""
    explains: tuple[str, ...] = ()
    rank: int = 4
    joint: bool = False
    in_company: bool = True
    early: bool = False
    slowness: bool = False
    tried: bool = False
    last: bool = False

    @property
    def group(self) -> Group:
        """The part of a training program that holds the fault."""
        return GROUPS[int(self.code[2]) - 1]

    @property
    def limit(self) -> str:
        """The threshold with its source."""
        return f"{self.threshold} ({self.source})" if self.source else self.threshold
