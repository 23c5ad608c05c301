"""Figures in words: infinity and NaN never show as numbers."""

from __future__ import annotations

import math

import pytest

from levelhead.records import Interval, Row
from levelhead.report import text

INF, NAN = math.inf, math.nan
NONE = Interval(NAN, NAN, NAN)


def row(arm: str, value: float, low: float, high: float) -> Row:
    return Row(arm, {}, 5, 0, 0, 5, NONE, Interval(value, low, high), NONE, NONE)


@pytest.mark.parametrize(
    ("interval", "value", "between"),
    [
        (Interval(1240.0, 1100.0, 1500.0), "1,240", "1,100\u2009–\u20091,500"),
        (Interval(622.5, 600.0, 700.0), "623", "600\u2009–\u2009700"),
        (Interval(680.0, 520.0, INF), "680", "> 520"),
        (Interval(INF, 520.0, INF), "not reached in 4,000", "> 520"),
        (Interval(INF, INF, INF), "not reached in 4,000", ""),
        (NONE, "–", ""),
    ],
)
def test_steps(interval: Interval, value: str, between: str) -> None:
    assert text.steps(interval, 4000) == value
    assert text.steps_interval(interval) == between


@pytest.mark.parametrize(
    ("value", "low", "high", "said", "between"),
    [
        (2.64, 1.9, 3.42, "2.6 ×", "1.9\u2009–\u20093.4 ×"),
        (0.42, 0.4, 0.996, "0.42 ×", "0.40\u2009–\u20091.0 ×"),
        (14.2, 9.96, 1234.0, "14 ×", "10\u2009–\u20091,234 ×"),
        (3.0, 2.0, INF, "3.0 ×", "> 2.0 ×"),
        (0.7, 0.0, 1.2, "0.70 ×", "< 1.2 ×"),
        (INF, 6.2, INF, "> 6.2 ×", ""),  # only the baseline missed the target
        (0.0, 0.0, 0.31, "< 0.31 ×", ""),  # only this arm did
        (0.0, 0.0, INF, "not determined", ""),
        (NAN, 0.0, INF, "not determined", ""),
    ],
)
def test_speedups(value: float, low: float, high: float, said: str, between: str) -> None:
    assert text.speedup(row("BN", value, low, high), "plain") == said
    assert text.speedup_interval(row("BN", value, low, high), "plain") == between


def test_the_baselines_speedup_is_one() -> None:
    assert text.speedup(row("plain", NAN, NAN, NAN), "plain") == "1 ×"
    assert text.speedup_interval(row("plain", 1.0, 1.0, 1.0), "plain") == ""


def test_scores() -> None:
    assert text.score(0.9387, "accuracy") == "93.9 %"
    assert text.score(0.9387, "r2") == "0.939"
    assert text.score(NAN, "accuracy") == "–"
    assert text.score_interval(Interval(0.9, 0.881, 0.934), "accuracy") == "88.1\u2009–\u200993.4 %"
    assert text.score_interval(Interval(0.9, -0.5, 0.934), "r2") == "-0.500\u2009–\u20090.934"
    assert text.score_interval(NONE, "r2") == ""


def test_settings() -> None:
    assert [text.setting(v) for v in (True, None, 0.5, 3.0, "relu", (1, 2), {"a_b": 1e-4})] == [
        "yes",
        "none",
        "0.5",
        "3",
        "relu",
        "1, 2",
        "a b 0.0001",
    ]


def test_durations() -> None:
    assert [text.duration(s) for s in (3.14, 59.96, 125.0, NAN)] == ["3.1 s", "1 min 0 s", "2 min 5 s", "–"]
