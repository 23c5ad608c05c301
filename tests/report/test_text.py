"""Settings and times in words."""

from __future__ import annotations

import math

from levelhead.report import text

NAN = math.nan


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
