"""What a rule is: the one record of a cause, of which findings, thresholds, choices and the page of rules are made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Literal

from levelhead.doctor.findings import Severity
from levelhead.doctor.remedies import Remedy

if TYPE_CHECKING:
    from levelhead.doctor.evidence import Evidence

Group = Literal["data", "init", "architecture", "normalization", "loss", "optimization", "generalization"]
GROUPS: tuple[Group, ...] = ("data", "init", "architecture", "normalization", "loss", "optimization", "generalization")
#: The least gain of a repair that proves its cause, ours: a tenth parts collected faults (each costs 0.1 in score and
#: more) from the noise between seeds; where nothing but the outcome speaks for a cause, a quarter.
GAIN, LARGE_GAIN = 0.1, 0.25
#: The share of its first value by which the loss of a training that learns has fallen.
LEARNT = 0.3
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


Judge = Callable[..., "list[Suspicion]"]


@dataclass(frozen=True)
class Check:
    """One way in which a cause shows.

    Args:
        judge: gives the suspicions that the evidence raises; what it needs of it are its further arguments.
        needs: fields of the evidence without which it cannot judge; it then raises none.
    """

    judge: Judge
    needs: tuple[str, ...] = ()

    def __call__(self, facts: Evidence) -> list[Suspicion]:
        """The suspicions that the evidence raises."""
        needed = [getattr(facts, need) for need in self.needs]
        return [] if any(each is None for each in needed) else self.judge(facts, *needed)


class Rule:
    """A fault that a person can mend, and how it is known.

    Args:
        page: the record as text: ``LH101 cause: what is wrong``, then, each with its name in front, ``Why`` (what it
            does to a training, and what else the rule looks at), ``Threshold`` (written with the constants that its
            checks use), ``Source`` (of the threshold), ``Remedy`` in words, and ``Example`` as code.
        explains: causes that follow from it, and are no findings of their own beside it.
        rank: suspicions of a lower one are tried first, and are the cause where another repair does as much.
        joint: whether its repair is tried together with others of this kind where none of them pays alone.
        in_company: whether it is among those tried together in a program that learns nothing.
        early: whether it shows in the first updates of a long training.
        in_games: whether it can be proven of networks that play against each other, whose losses say nothing.
        slowness: whether it is learning that is too slow for its time: one such cause is enough.
        tried: whether the repair of what is only style is tried all the same.
        last: whether it is asked only where nothing else was found.
    """

    def __init__(
        self,
        page: str,
        *,
        explains: tuple[str, ...] = (),
        rank: int = 4,
        joint: bool = False,
        in_company: bool = True,
        early: bool = False,
        in_games: bool = False,
        slowness: bool = False,
        tried: bool = False,
        last: bool = False,
    ) -> None:
        head, *named = re.split(r"^(Why|Threshold|Source|Remedy|Example): ", cleandoc(page), flags=re.MULTILINE)
        texts: dict[str, str] = dict(zip(named[::2], (text.strip() for text in named[1::2]), strict=True))
        whole = {name: " ".join(text.split()) for name, text in texts.items()}
        title, self.meaning = " ".join(head.split()).split(": ", 1)
        self.code, self.cause = title.split()
        self.why, self.threshold, self.remedy = whole["Why"], whole["Threshold"], whole["Remedy"]
        self.source, self.example = whole.get("Source", ""), texts["Example"]
        self.explains, self.rank, self.joint, self.in_company = explains, rank, joint, in_company
        self.in_games, self.early, self.slowness, self.tried, self.last = in_games, early, slowness, tried, last
        self.checks: list[Check] = []

    def check(self, *needs: str) -> Callable[[Judge], Check]:
        """Make a function a check: ``program`` is what an examination has, ``base`` a training, ``history`` a watch."""

        def added(judge: Judge) -> Check:
            self.checks.append(Check(judge, needs))
            return self.checks[-1]

        return added

    def suspect(self, where: str, summary: str, *args: Any, **kwargs: Any) -> Suspicion:
        """A suspicion of this cause; arguments as for ``Suspicion``."""
        return Suspicion(self.cause, where, summary, *args, **kwargs)

    def tried_with(self, where: str, remedy: Remedy) -> Suspicion:
        """A suspicion of which the outcome of this remedy says more than what was seen."""
        return self.suspect(where, remedy.words, remedies=(remedy,))

    @property
    def group(self) -> Group:
        """The part of a training program that holds the fault."""
        return GROUPS[int(self.code[2]) - 1]

    @property
    def limit(self) -> str:
        """The threshold with its source."""
        return f"{self.threshold} ({self.source})" if self.source else self.threshold
