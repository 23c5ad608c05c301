"""Figures as words: what the table, the sentence and the notes share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from levelhead.lessons import DELTAS, nothing
from levelhead.records import Answer, Interval, Row
from levelhead.studies.claims import rule


def score(value: float, metric: str) -> str:
    """An accuracy in per cent, an r2 as it is."""
    if math.isnan(value):
        return "none"
    return f"{100 * value:.1f} %" if metric == "accuracy" else f"{value:.3f}"


def scores(interval: Interval, metric: str) -> str:
    """A median score with its interval."""
    if math.isnan(interval.value):
        return "none"
    low, high = score(interval.low, metric).removesuffix(" %"), score(interval.high, metric).removesuffix(" %")
    return f"{score(interval.value, metric)} [{low}, {high}]"


def steps(interval: Interval, budget: int) -> str:
    """Median steps with their interval, what was not reached as such."""
    value = _steps(interval.value, budget)
    if interval.low == interval.high:
        return value
    return f"{value} [{_steps(interval.low, budget)}, {_steps(interval.high, budget)}]"


def ratio(interval: Interval) -> str:
    """A speed-up with its interval; a bound where only a bound is known."""
    if math.isnan(interval.value):
        return "unknown"
    if math.isinf(interval.value):
        return f"> {_times(interval.low)}"
    if interval.value == 0:
        return "not reached" if math.isinf(interval.high) else f"< {_times(interval.high)}"
    if interval.low == interval.high:
        return _times(interval.value)
    high = "unbounded" if math.isinf(interval.high) else _times(interval.high)
    return f"{_times(interval.value)} [{_times(interval.low)}, {high}]"


def verdict(gain: Interval) -> str:
    """What a speed-up's interval says, to begin a sentence with."""
    match rule(gain, "above", 1.0, nothing("times", ratio=True)):
        case "supported":
            return "Faster"
        case "not supported":
            return "Slower"
        case "no difference":
            return f"No difference shown, and none larger than {DELTAS['times']:g} times"
        case _:
            return "No difference shown"


def against(row: Row, base: Row, target: str, budget: int, name: str) -> str:
    """How an arm compares with the baseline, which goes by ``name``: a clause without a subject."""
    gain = row.speedup
    reached = f"{row.reached} of {row.runs} seeds reach it, and {base.reached} of {base.runs} of {name}"
    if row.reached < row.runs or base.reached < base.runs:
        bounds = [f"at least {_times(gain.low)}"] if gain.low > 0 else []
        bounds += [f"at most {_times(gain.high)}"] if math.isfinite(gain.high) else []
        known = f"{' and '.join(bounds)} times as fast as {name}" if bounds else "the ratio is not known"
        return f"is judged by its steps to {target} in {budget:,}: {reached}; {known}"
    high = "no bound above" if math.isinf(gain.high) else _times(gain.high)
    if gain.value == 1:
        return f"needs as many steps to {target} as {name}"
    if gain.value > 1:
        return (
            f"reaches {target} in {_times(gain.value)} times fewer steps (95 % interval {_times(gain.low)} to {high}) "
            f"than {name}"
        )
    between = f"{_reciprocal(gain.high)} to {_reciprocal(gain.low)}"
    return f"needs {_times(1 / gain.value)} times as many steps to {target} (95 % interval {between}) as {name}"


def fastest(rows: Sequence[Row]) -> Row:
    """The arm with the fewest steps, of equal ones that with the best score."""
    return min(rows, key=lambda row: (row.steps.value, -row.best.value))


def nobody(answer: Answer) -> str:
    """That no arm learned, where none did; else nothing."""
    bests = [row.best.value for row in answer.rows if math.isfinite(row.best.value)]
    if math.isnan(answer.luck) or any(best > answer.luck for best in bests):
        return ""
    best = score(max(bests, default=math.nan), answer.metric)
    return f"No arm learned: the best {answer.metric} of any is {best}, and {chance(answer)}"


def chance(answer: Answer) -> str:
    """What a model has that ignores its inputs."""
    what = "the most frequent class alone" if answer.metric == "accuracy" else "the mean alone"
    return f"{what} gives {score(answer.chance, answer.metric)}"


def with_sentence(answer: Answer, data: str) -> Answer:
    """The answer with the usual sentence: the fastest other arm against the baseline, whatever comes out."""
    others = [row for row in answer.rows if row.arm != answer.baseline]
    base = next(row for row in answer.rows if row.arm == answer.baseline)
    if none := nobody(answer):
        return replace(answer, sentence=f"{none}, on {data}.")
    if not others:
        best = scores(base.best, answer.metric)
        return replace(answer, sentence=f"On {data}, {answer.baseline} comes to a best {answer.metric} of {best}.")
    best_arm = fastest(others)
    clause = against(best_arm, base, score(answer.target, answer.metric), answer.steps, answer.baseline)
    which = "the other arm" if len(others) == 1 else f"the fastest of {len(others)} other arms"
    return replace(answer, sentence=f"{verdict(best_arm.speedup)}: on {data}, {which}, {best_arm.arm}, {clause}.")


def network(recipe: Mapping[str, Any]) -> str:
    """What is trained, in a few words."""
    match recipe["network"]:
        case "mlp":
            return f"MLP, {recipe['depth']} hidden layers of {recipe['width']}"
        case "convnet":
            return f"convnet, {recipe['depth']} blocks from {recipe['width']} channels"
        case own:
            return str(own)


def _steps(value: float, budget: int) -> str:
    return f"not in {budget:,}" if math.isinf(value) else f"{value:,.0f}"


def _times(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _reciprocal(value: float) -> str:
    if value == 0:
        return "no bound above"
    return "0" if math.isinf(value) else _times(1 / value)
