"""Figures in words: every number of the page is written here, and infinity never as a number."""

from __future__ import annotations

import math
from typing import Any

from levelhead.records import Interval, Row

#: Between the ends of an interval, with thin spaces.
_TO = "\u2009–\u2009"
_NOTHING = "–"


def count(value: float) -> str:
    """A number of steps, with its thousands apart: ``1,240``; halves, as medians have them, are rounded up."""
    return f"{math.floor(value + 0.5):,}"


def score(value: float, metric: str) -> str:
    """A score in its metric's unit: accuracy in percent with one decimal, others with three."""
    if not math.isfinite(value):
        return _NOTHING
    return f"{100 * value:.1f} %" if metric == "accuracy" else f"{value:.3f}"


def score_interval(interval: Interval, metric: str) -> str:
    """The 95 % interval of a score; empty where there is none."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    if metric == "accuracy":
        return f"{100 * interval.low:.1f}{_TO}{100 * interval.high:.1f} %"
    return f"{interval.low:.3f}{_TO}{interval.high:.3f}"


def steps(interval: Interval, budget: int) -> str:
    """Steps to the target; in words where it was not reached."""
    if math.isnan(interval.value):
        return _NOTHING
    return f"not reached in {count(budget)}" if math.isinf(interval.value) else count(interval.value)


def steps_interval(interval: Interval) -> str:
    """The 95 % interval of the steps: ``> 900`` where its upper end was not reached; empty where there is none."""
    if not math.isfinite(interval.low):
        return ""
    return _range(count(interval.low), count(interval.high) if math.isfinite(interval.high) else "")


def speedup(row: Row, baseline: str) -> str:
    """How many times fewer steps than the baseline.

    Where only the baseline missed the target, the ratio is infinite and its lower bound is what is known; where
    only this arm did, it is 0 and the upper bound is.
    """
    value = row.speedup.value
    if row.arm == baseline:
        return "1 ×"
    if math.isnan(value):
        return "not determined"
    if math.isinf(value):
        return f"> {_times(row.speedup.low)}"
    if value == 0:
        return f"< {_times(row.speedup.high)}" if math.isfinite(row.speedup.high) else "not determined"
    return _times(value)


def speedup_interval(row: Row, baseline: str) -> str:
    """The 95 % interval of the speed-up; empty for the baseline and where both ends are unknown."""
    low, high = row.speedup.low, row.speedup.high
    bounded = math.isfinite(row.speedup.value) and row.speedup.value > 0
    if row.arm == baseline or not bounded or math.isnan(low) or math.isnan(high):
        return ""
    return _range(_times(low) if low > 0 else "", _times(high) if math.isfinite(high) else "")


def setting(value: Any) -> str:
    """A value of a recipe, as a reader would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{label(key)} {setting(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value)
    return str(value)


def label(name: str) -> str:
    """A field's name as words."""
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """Wall-clock time: ``8.3 s`` or ``2 min 5 s``."""
    if not math.isfinite(seconds):
        return _NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"


def _times(value: float) -> str:
    digits = 2 if value < 0.995 else 1 if value < 9.95 else 0
    return f"{value:,.{digits}f} ×"


def _range(low: str, high: str) -> str:
    if not low or not high:
        return f"> {low}" if low else f"< {high}" if high else ""
    if low.endswith(" ×"):
        low = low.removesuffix(" ×")
    return f"{low}{_TO}{high}"


def sentence(words: str) -> str:
    """The words with a capital at the start and the rest as it is."""
    return words[:1].upper() + words[1:]


def number(value: float) -> str:
    """A number to three digits, thousands apart, and without an exponent down to a thousandth."""
    if not math.isfinite(value):
        return _NOTHING
    if value == 0:
        return "0"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}"
