"""Figures as words: what the table, the sentence and the notes share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from levelhead.records import Answer, Interval, Row


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


def against(row: Row, target: str, budget: int, baseline: str) -> str:
    """How an arm compares with the baseline: a clause without a subject."""
    gain = row.speedup
    if math.isinf(row.steps.value):
        return f"does not reach {target} in {budget:,} steps ({row.reached} of {row.runs} seeds do)"
    if math.isinf(gain.value):
        return (
            f"reaches {target} in {row.steps.value:,.0f} steps, and {baseline} not in {budget:,}: "
            f"at least {_times(gain.low)} times fewer"
        )
    high = "no bound above" if math.isinf(gain.high) else _times(gain.high)
    if gain.value >= 1:
        text = f"reaches {target} in {_times(gain.value)} times fewer steps"
        between = f"{_times(gain.low)} to {high}"
    else:
        text = f"needs {_times(1 / gain.value)} times as many steps to {target}"
        between = f"{_reciprocal(gain.high)} to {_reciprocal(gain.low)}"
    real = "" if gain.low > 1 or gain.high < 1 else ", so that no difference is shown"
    return f"{text} (95 % interval {between}{real}) {'than' if gain.value >= 1 else 'as'} {baseline}"


def with_sentence(answer: Answer, data: str) -> Answer:
    """The answer with the usual sentence: the fastest other arm against the baseline, whatever comes out."""
    others = [row for row in answer.rows if row.arm != answer.baseline]
    target = score(answer.target, answer.metric)
    if not others:
        best = scores(answer.rows[0].best, answer.metric)
        return replace(answer, sentence=f"On {data}, {answer.baseline} comes to a best {answer.metric} of {best}.")
    fastest = min(others, key=lambda row: (row.steps.value, -row.best.value))
    clause = against(fastest, target, answer.steps, answer.baseline)
    return replace(answer, sentence=f"On {data}, the fastest arm, {fastest.arm}, {clause}.")


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
