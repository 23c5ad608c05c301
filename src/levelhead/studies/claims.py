"""A claim, the effect that would show it, and the verdict that the effect's interval gives."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from levelhead.lessons import Ruling, Side, Verdict
from levelhead.records import Interval

if TYPE_CHECKING:
    from levelhead.studies.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence that data can support or not; side and threshold stand here before any run is made.

    Args:
        text: the claim.
        source: which lectures make it.
        effect: what is measured, in words.
        measure: the effect of one seed, from the runs of that seed.
        side: where the interval must lie, as in ``lessons.Verdict``.
        threshold: in the effect's unit.
        unit: of the effect.
        ratio: the effect is a ratio: its mean is geometric, and the threshold a ratio too.
        remark: what was chosen after looking.
    """

    text: str
    source: str
    effect: str
    measure: Callable[[Samples, int], float]
    side: Side = "above"
    threshold: float = 0.0
    unit: str = ""
    ratio: bool = False
    remark: str = ""

    def judge(self, samples: Samples) -> Verdict:
        """The verdict of the runs; a seed without an effect leaves the claim undecided."""
        effects = tuple(float(self.measure(samples, seed)) for seed in samples.seeds)
        interval = mean(effects, ratio=self.ratio)
        ruling, reason = rule(interval, self.side, self.threshold), ""
        lost = [seed for seed, effect in zip(samples.seeds, effects, strict=True) if not math.isfinite(effect)]
        if lost:
            reason = f"Seed {', '.join(map(str, lost))} has no such effect."
        elif len(effects) == 1:
            reason = "One seed has no interval."
        remark = " ".join(part for part in (reason, self.remark) if part)
        return Verdict(
            self.text,
            self.source,
            self.effect,
            self.unit,
            effects,
            interval,
            self.side,
            self.threshold,
            ruling,
            remark,
        )


def rule(interval: Interval, side: Side, threshold: float) -> Ruling:
    """What an interval says: it lies on the claim's side of the threshold, on the other, or on both."""
    low, high = interval.low, interval.high
    if math.isnan(low) or math.isnan(high):
        return "not decided"
    match side:
        case "above":
            holds, fails = low > threshold, high <= threshold
        case "below":
            holds, fails = high < threshold, low >= threshold
        case "within":
            holds, fails = -threshold < low and high < threshold, low >= threshold or high <= -threshold
    return "supported" if holds else "not supported" if fails else "not decided"


def mean(values: Sequence[float], *, ratio: bool = False) -> Interval:
    r"""The mean with its 95 % interval by Student's t; of ratios the geometric mean.

    .. math:: \bar x \pm t_{0.975, n - 1}\, s / \sqrt n

    Exact for normal effects, and for three seeds and more close to it where they are not far from symmetric; unlike
    the bootstrap it keeps its 95 % at three seeds, where t is 4.3.

    Returns:
        NaN throughout where a value is not finite or there is none, NaN ends where there is but one.

    Source: Student 1908, "The probable error of a mean".
    """
    usable = all(math.isfinite(value) and (value > 0 or not ratio) for value in values)
    if not values or not usable:
        return Interval(math.nan, math.nan, math.nan)
    scaled = [math.log(value) for value in values] if ratio else list(values)
    middle = statistics.fmean(scaled)
    if len(scaled) == 1:
        return Interval(values[0], math.nan, math.nan)
    from scipy.special import stdtrit

    half = float(stdtrit(len(scaled) - 1, 0.975)) * statistics.stdev(scaled) / math.sqrt(len(scaled))
    ends = (middle, middle - half, middle + half)
    return Interval(*map(math.exp, ends)) if ratio else Interval(*ends)
