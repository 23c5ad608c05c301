"""Runs compared, of programs as of scripts: what a change wins, and which of several names the cause. No torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from levelhead.doctor.findings import Scores, Severity

#: Between changes whose gains differ by less, the one that is tried first, upstream, is the root.
UPSTREAM = 0.1
#: From this gain on a fault is critical: the program has less than half of what the repair brings.
CRITICAL = 0.5
#: A gain below this share of the way to a perfect score is not worth a change.
LEAST = 0.02


def gain(before: float, after: float, floor: float) -> float:
    """The part of the way from a constant answer to ``after`` that ``before`` had not gone; 0 is no better.

    Args:
        before: a score, higher is better; one that is not finite has gone none of the way.
        after: the score with the change.
        floor: the score of the best constant answer.
    """
    before = before if math.isfinite(before) else -math.inf
    if not (math.isfinite(after) and after > max(before, floor)):
        return 0.0
    if math.isinf(before) or math.isinf(floor):
        return 1.0 if math.isinf(before) else 0.0
    return (after - max(before, floor)) / (after - floor)  # worse than constant has gone none of it


def number(score: float) -> float:
    """The score; minus infinity where there is none."""
    return -math.inf if math.isnan(score) else score


def severity_of(won: float) -> Severity:
    """How grave a fault is whose repair wins so much."""
    return "critical" if won >= CRITICAL else "warning"


@dataclass
class Result:
    """How a training did.

    Args:
        score: at its end, on validation data; minus infinity where it has none.
        losses: of each update.
        updates: how many updates were done.
        planned: how many there were to be.
        seconds: wall-clock time.
        cost: what of a budget it took.
        error: what it raised, if it did.
    """

    score: float = -math.inf
    losses: list[float] = field(default_factory=list)
    updates: int = 0
    planned: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    error: Exception | str | None = None

    @property
    def diverged(self) -> bool:
        """Whether the loss stopped being finite."""
        return any(not math.isfinite(loss) for loss in self.losses)

    @property
    def train_loss(self) -> float:
        """Mean loss over the last tenth of the updates."""
        return average(self.losses[-max(1, len(self.losses) // 10) :])

    @property
    def first_loss(self) -> float:
        """Mean loss over the first twentieth of the updates."""
        return average(self.losses[: max(1, len(self.losses) // 20)])

    @property
    def note(self) -> str:
        """How it ended, where not as planned."""
        if self.error:
            said = self.error if isinstance(self.error, str) else f"{type(self.error).__name__}: {self.error}"
            return said.splitlines()[0][:80]
        return "diverged" if self.diverged else ""


def average(values: list[float]) -> float:
    """The mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Tried:
    """A change that was tried against a suspected cause.

    Args:
        suspicion: the suspicion, or the cause.
        change: what was changed.
        outcome: how the run with it did.
        gain: what it won.
        generic: whether nothing but the outcome speaks for the cause.
        value: by which it is compared; the gain, where nothing finer is known.
    """

    suspicion: Any
    change: Any
    outcome: Any
    gain: float
    generic: bool
    value: float


def first_of(tried: Iterable[Tried], margin: float, handicap: float = 0.0) -> Tried | None:
    """The largest value; one that is upstream (earlier) wins where another's is not larger by the margin.

    Changes against one cause compete without a margin; a generic one must be better by ``handicap`` besides.
    """
    best: Tried | None = None
    for each in tried:
        least = margin + (handicap if each.generic else 0.0)
        least = least if best is not None and each.suspicion is not best.suspicion else 0.0
        if best is None or each.value > best.value + least:
            best = each
    return best


def clear(before: Scores, after: Scores, least: float) -> bool:
    """Better with every seed, and by more than twice the standard error of the mean difference, and than ``least``.

    Or with every seed better than before with any: of six equal runs, the three better ones would be these once in
    twenty times (the exact permutation test; Fisher 1935, The design of experiments, section 21).
    """
    if not all(a > b for a, b in zip(after.values, before.values, strict=True)):
        return False
    differences = [a - b for a, b in zip(after.values, before.values, strict=True)]
    if not all(map(math.isfinite, differences)):
        return all(map(math.isfinite, after.values))  # from no score at all to one
    mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    apart = len(differences) >= 3 and min(after.values) > max(before.values)
    return mean > max(0.0 if apart else 2 * error, least)
