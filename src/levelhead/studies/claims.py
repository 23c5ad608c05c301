"""A claim, the effect that would show it, and the verdict that the effect's interval gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levelhead.lessons import Ruling, Side, Verdict, nothing
from levelhead.records import Interval
from levelhead.studies.outcome import mean

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
        interval: of all seeds; None is ``outcome.mean`` of their effects.
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
    interval: Callable[[Samples], Interval] | None = None

    def judge(self, samples: Samples) -> Verdict:
        """The verdict of the runs; a seed without an effect leaves the claim undecided."""
        effects = tuple(float(self.measure(samples, seed)) for seed in samples.seeds)
        interval = self.interval(samples) if self.interval else mean(effects, ratio=self.ratio)
        span = nothing(self.unit, ratio=self.ratio)
        ruling, reason = rule(interval, self.side, self.threshold, span), ""
        lost = [seed for seed, effect in zip(samples.seeds, effects, strict=True) if not math.isfinite(effect)]
        if lost and self.interval:
            reason = f"The target was missed with seed {', '.join(map(str, lost))}, which counts as a bound."
        elif lost:
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


def steps_ratio(slow: str, fast: str, target: float) -> dict[str, Any]:
    """The fields of a claim about steps to a validation score, slow over fast: measure, interval and threshold."""
    return {
        "measure": lambda samples, seed: samples.ratio(slow, fast, seed, target),
        "interval": lambda samples: samples.speedup(slow, fast, target),
        "threshold": 1.0,
        "unit": "times",
        "ratio": True,
    }


def rule(interval: Interval, side: Side, threshold: float, span: tuple[float, float] | None = None) -> Ruling:
    """What an interval says: it lies on the claim's side of the threshold, on the other, or within what counts as none.

    Args:
        interval: of the effect.
        side: the claim's.
        threshold: the claim's; an end that equals it lies on neither side.
        span: the effects that are no difference worth the name.
    """
    low, high = interval.low, interval.high
    if math.isnan(low) or math.isnan(high):
        return "not decided"
    match side:
        case "above":
            holds, fails = low > threshold, high < threshold
        case "below":
            holds, fails = high < threshold, low > threshold
        case "within":
            holds, fails = -threshold < low and high < threshold, low > threshold or high < -threshold
    if holds or fails:
        return "supported" if holds else "not supported"
    return "no difference" if span is not None and span[0] <= low and high <= span[1] else "not decided"
