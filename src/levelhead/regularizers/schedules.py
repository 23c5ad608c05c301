"""Strengths and rates that change over the steps of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TypeAlias

#: A number; a function of the step (0 is the first); or one number a step.
Schedule: TypeAlias = float | Callable[[int], float] | Sequence[float]


@dataclass(frozen=True)
class _Way:
    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a schedule needs at least 1 step, got steps = {self.steps}")


class Linear(_Way):
    r"""From ``start`` to ``end`` in a straight line, and ``end`` from then on.

    .. math:: s_t = start + (end - start) \min(t / steps, 1)
    """

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


class Cosine(_Way):
    r"""From ``start`` to ``end`` along half a cosine, and ``end`` from then on.

    .. math:: s_t = end + (start - end) (1 + \cos(\pi \min(t / steps, 1))) / 2

    Source: Loshchilov & Hutter 2017, "SGDR", equation 5.
    """

    def __call__(self, step: int) -> float:
        """The value at a step."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * min(step / self.steps, 1.0))) / 2


def check(schedule: Schedule, what: str, below: float = math.inf) -> None:
    """Refuse a schedule whose first value cannot be; see ``value``."""
    if isinstance(schedule, str) or not (callable(schedule) or isinstance(schedule, Real | Sequence)):
        raise TypeError(f"{what} must be a number, a function of the step or one number a step, got {schedule!r}")
    value(schedule, 0, what, below)


def value(schedule: Schedule, step: int, what: str, below: float = math.inf) -> float:
    """The value of a schedule at a step.

    Args:
        schedule: a number, a function of the step, or one number a step.
        step: counted from 0.
        what: how to call it in an error.
        below: what every value must be below.

    Raises:
        ValueError: the value is negative, not finite or not below ``below``, or the numbers have come to an end.
    """
    if callable(schedule):
        number = float(schedule(step))
    elif isinstance(schedule, Sequence):
        if step >= len(schedule):
            raise ValueError(
                f"the schedule of {what} ends after {len(schedule)} steps, and step {step + 1} was taken; give it more "
                "values, or a function of the step (Linear and Cosine hold their last value)"
            )
        number = float(schedule[step])
    else:
        number = float(schedule)
    if not 0 <= number < below:
        at = f" at step {step}" if callable(schedule) or isinstance(schedule, Sequence) else ""
        limit = "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{what} must be at least 0 and {limit}, got {number}{at}")
    return number
