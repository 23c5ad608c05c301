"""A claim, the effect that would show it, and the verdict that the effect's interval gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from levelhead.lessons import LEVEL, Ruling, Side, Verdict, named
from levelhead.records import Interval
from levelhead.studies.outcome import Effects, Estimate, correlation, of_steps

if TYPE_CHECKING:
    from levelhead.studies.samples import Samples

#: The effect of one seed, or the two figures that it is the difference or the ratio of.
Measure = Callable[["Samples", int], "float | tuple[float, float]"]
#: The largest effect that is no difference worth the name, by unit, where a claim has none of its own.
DELTAS = {"percentage points": 1.0, "per cent": 1.0, "times": 1.1, "decades": 0.1}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence that data can support or not; side, threshold and delta stand here before any run is made.

    Args:
        text: the claim; for ``{metric}`` it and ``effect`` say the measure that ran.
        source: which lectures make it.
        effect: what is measured, in words.
        measure: the effect of one seed, from the runs of that seed: a number, or a pair whose difference it is, or
            whose ``ratio``.
        side: where the interval must lie, as in ``lessons.Verdict``.
        threshold: in the effect's unit.
        unit: of the effect; ``times`` makes it a ratio, whose mean is geometric, and the threshold a ratio too.
        delta: the largest effect that is no difference worth the name; None takes the unit's (``DELTAS``), or 0.
        floor: the least deviation that the measurement allows.
        target: the pair are steps to this score: infinite ones are misses, known to be more than the run was given.
        remark: what was chosen after looking.
        words: to begin the sentence with.
    """

    text: str
    source: str = ""
    effect: str
    measure: Measure
    side: Side = "above"
    threshold: float = 0.0
    unit: str = ""
    delta: float | None = None
    floor: float = 0.0
    target: float | None = None
    remark: str = ""
    words: tuple[str, str] = ("Supported", "Contradicted")

    def arms(self, samples: Samples) -> set[str]:
        """The arms whose runs it looks at."""
        watched = replace(samples, seen=set())
        self.measure(watched, samples.seeds[0])
        return watched.seen

    def judge(self, samples: Samples, level: float = LEVEL, look: int = 0) -> Verdict:
        """The verdict of the runs; a seed without an effect leaves the claim undecided."""
        ratio = self.unit == "times"
        found = [self.measure(samples, seed) for seed in samples.seeds]
        pairs = [pair for pair in found if isinstance(pair, tuple)]
        effects = tuple(float(_effect(pair, ratio=ratio)) for pair in found)
        if self.target is None:
            grain = samples.grain if self.unit == "percentage points" else 0.0
            known: Estimate = Effects(effects, ratio, max(self.floor, grain))
        else:
            recipe = samples.recipe(self.arms(samples))
            slow, fast = ([pair[i] for pair in pairs] for i in (0, 1))
            known = of_steps(slow, fast, recipe["steps"], recipe["evaluate_every"])
        interval = known.interval(level)
        delta = DELTAS.get(self.unit, 0.0) if self.delta is None else self.delta

        def ruling(interval: Interval) -> Ruling:
            return rule(
                interval, self.side, self.threshold, (1 / (delta or 1), delta or 1) if ratio else (-delta, delta)
            )

        ends = (-self.threshold, self.threshold) if self.side == "within" else (self.threshold,)
        p = max(map(known.p, ends)) * LEVEL / level
        undecided = ruling(interval) == "not decided"
        return Verdict(
            claim=named(self.text, samples.metric),
            source=self.source,
            effect=named(self.effect, samples.metric),
            unit=self.unit,
            effects=effects,
            interval=interval,
            side=self.side,
            threshold=self.threshold,
            ruling=ruling(interval),
            delta=delta,
            p=p if math.isnan(p) else min(1.0, p),
            level=level,
            look=look,
            would=known.needed(lambda interval: ruling(interval) != "not decided") if undecided else 0,
            correlation=correlation(pairs, ratio=ratio),
            words=self.words,
            remark=" ".join(part for part in (self._lost(samples, effects), self.remark) if part),
        )

    def _lost(self, samples: Samples, effects: tuple[float, ...]) -> str:
        lost = [
            seed
            for seed, effect in zip(samples.seeds, effects, strict=True)
            if not math.isfinite(effect) or (self.target is not None and effect == 0)
        ]
        named = ", ".join(map(str, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        if lost and self.target is not None:
            return f"The target was missed with seed {named}: the log-rank test judges."
        if lost:
            return f"Seed {named} has no such effect."
        return "One seed has no interval." if len(effects) == 1 else ""


def _effect(found: float | tuple[float, float], *, ratio: bool) -> float:
    if not isinstance(found, tuple) or not ratio:
        return gain(found)
    one, other = found
    return one / other if other and not (math.isinf(one) and math.isinf(other)) else math.nan


def faster(slow: str, fast: str, target: float, **fields: Any) -> Claim:
    """The claim that one arm needs fewer steps to a validation score than another of the same seed."""

    def measure(samples: Samples, seed: int) -> tuple[float, float]:
        return samples.steps(slow, seed, target), samples.steps(fast, seed, target)

    return Claim(**{"threshold": 1.0, "unit": "times", "target": target, "measure": measure, **fields})


def values(name: str, one: str, other: str, *more: str | int, times: float = 1.0) -> Measure:
    """What a method of ``Samples``, by its name, gives of one arm and of another."""
    return lambda samples, seed: (
        times * getattr(samples, name)(one, seed, *more),
        times * getattr(samples, name)(other, seed, *more),
    )


def points(name: str, one: str, other: str, *more: str | int) -> Measure:
    """The same of shares, in percentage points."""
    return values(name, one, other, *more, times=100.0)


def gain(found: float | tuple[float, float]) -> float:
    """The difference that a measure gives."""
    return found[0] - found[1] if isinstance(found, tuple) else found


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
        return "supported" if holds else "contradicted"
    return "no difference" if span is not None and span[0] <= low and high <= span[1] else "not decided"
