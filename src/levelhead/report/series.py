"""What the figures show, measured from the runs: medians and ranges over seeds, and where runs ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from levelhead.records import Run


@dataclass(frozen=True, slots=True)
class End:
    """Where a diverged run left its curve: its last finite value."""

    seed: int
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Band:
    """One quantity of one arm over training, over its seeds.

    Args:
        steps: the updates done, ascending.
        middle: the median over seeds; a diverged run counts as worse than any other from its end on, so the
            line ends where half of the runs have diverged.
        low: the smallest value, and ``high`` the largest, of the runs that have not diverged yet.
        ends: where the diverged runs ended.
    """

    steps: tuple[int, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    ends: tuple[End, ...]

    def times(self, factor: float) -> Band:
        """The band in another unit."""
        middle, low, high = (tuple(factor * y for y in ys) for ys in (self.middle, self.low, self.high))
        return Band(self.steps, middle, low, high, tuple(End(e.seed, e.step, factor * e.value) for e in self.ends))


def by_arm(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each arm, ascending by seed; the arms in the order in which they first appear."""
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    return {arm: sorted(its, key=lambda run: run.seed) for arm, its in arms.items()}


def finite_part(run: Run, name: str) -> dict[int, float]:
    """The curve by step up to its first value that is not finite; empty where the run has no such curve."""
    part: dict[int, float] = {}
    if name in run.curves:
        curve = run.curves[name]
        for step, value in zip(curve.steps, curve.values, strict=True):
            if not math.isfinite(value):
                break
            part[step] = value
    return part


def over_seeds(runs: Sequence[Run], name: str, worst: float) -> Band | None:
    """The band of one curve over the runs of one arm; None where no run has it.

    A run that ended early without diverging keeps its last value, so that the median is over the same runs
    at every step.

    Args:
        runs: of one arm; failed runs take no part.
        name: of the curve.
        worst: what a diverged run counts as after its end: ``-inf`` for a score, ``inf`` for a loss.
    """
    parts = [(run, part) for run in runs if run.status != "failed" and (part := finite_part(run, name))]
    if not parts:
        return None
    ends = tuple(
        End(run.seed, last, part[last]) for run, part in parts if run.status == "diverged" for last in [max(part)]
    )
    steps, middles, lows, highs = [], [], [], []
    for step in sorted({step for _, part in parts for step in part}):
        values = [_at(run, part, step, worst) for run, part in parts]
        middle = median(values)
        if not math.isfinite(middle):
            break
        steps.append(step)
        middles.append(middle)
        going = [value for value in values if math.isfinite(value)]
        lows.append(min(going))
        highs.append(max(going))
    return Band(tuple(steps), tuple(middles), tuple(lows), tuple(highs), ends)


def _at(run: Run, part: dict[int, float], step: int, worst: float) -> float:
    if step in part:
        return part[step]
    last = max(part)
    if step > last:
        return worst if run.status == "diverged" else part[last]
    return part[max((s for s in part if s < step), default=min(part))]
