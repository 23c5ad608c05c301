"""Settings, counts and times in words; what is said of results is ``levelhead.lessons``."""

from __future__ import annotations

import math
from typing import Any

_NOTHING = "–"


def count(value: float) -> str:
    """A number of steps, with its thousands apart: ``1,240``; halves, as medians have them, are rounded up."""
    return f"{math.floor(value + 0.5):,}"


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
        return ", ".join(setting(item) for item in value) or "none"
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


def sentence(words: str) -> str:
    """The words with a capital at the start and the rest as it is."""
    return words[:1].upper() + words[1:]
