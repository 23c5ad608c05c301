"""What the runs of a script are compared by: a figure that it computes itself."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

from levelhead.doctor.comparison import Result, number
from levelhead.doctor.evidence import Unchanged
from levelhead.doctor.findings import Examination
from levelhead.doctor.rules import Suspicion

#: What is read in evaluations, is not called a loss, and is so many times the training's or its part, is another kind.
APART = 10
LOWER = re.compile(r"loss|nll|mse|mae|rmse|perplexity|err(?!or=)|bce|elbo", re.IGNORECASE)
HIGHER = re.compile(
    r"argmax.*==|==.*argmax|acc|dice|iou|f1|auc|score|r2|correct|right|hits|reward|return_", re.IGNORECASE
)


@dataclass(frozen=True)
class Ran:
    """What one run came to, as a child writes it; seconds in all, up to the first update, and of one update."""

    steps: int
    losses: Sequence[Sequence[float]]
    validation: Sequence[Sequence[float]]
    readings: list[Any]
    error: str
    said: list[str]
    facts: Unchanged
    examinations: list[Examination]
    seconds: float = 0.0
    setup: float = 0.0
    pace: float = 0.0
    raised: list[Suspicion] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Measure:
    """What runs are compared by.

    Args:
        words: what it is, and what sign the script gives it.
        score: of a run: higher is better.
        floor: the score of the best constant answer, or of the start.
        validated: whether the script computes it in evaluations.
        sign: of the script's own figure in the score.
    """

    words: str
    score: Callable[[Ran], float]
    floor: float
    validated: bool
    sign: float = -1.0

    def of(self, ran: Ran, steps: int = 0) -> Result:
        """How a run did, that was to have so many updates; one that failed before, or diverged, has no score."""
        failed = (ran.error != "" and ran.steps < steps) or not all(math.isfinite(loss) for _, loss in ran.losses[-1:])
        return Result(
            -math.inf if failed else number(self.score(ran)),
            [loss for _, loss in ran.losses],
            ran.steps,
            max(steps, ran.steps),
            ran.seconds,
            ran.seconds,
            error=ran.error or None,
        )


def measure(first: Ran) -> Measure:
    """The script's own validation loss where it computes one; its training loss elsewhere."""
    finite = [loss for _, loss in first.losses[:5] if math.isfinite(loss)]
    floor = first.facts.floor
    floor = -(floor if floor is not None else median(finite) if finite else math.inf)
    if len(first.validation) > 0:
        return Measure("the script's validation loss", lambda ran: -_last(ran.validation), floor, True)
    for file, line, text, values in first.readings:
        lower, higher = bool(LOWER.search(text)), bool(HIGHER.search(text))
        if lower is higher or not values:
            continue
        sign = -1.0 if lower else 1.0

        def of(ran: Ran, key: tuple[str, int] = (file.rpartition("/")[2], line), sign: float = sign) -> float:
            found = (r[3] for r in ran.readings if (r[0].rpartition("/")[2], r[1]) == key)
            return sign * _last(next(found, []))

        words = f"what line {line} reads ({text[:60]})"
        worst = min((sign * v for _, v in values if math.isfinite(v)), default=-math.inf)
        share = first.facts.commonest
        if share is not None and "acc" in text.lower() and all(0 <= v <= 1 for _, v in values):
            return Measure(words, of, share, True, sign)
        alike = "loss" in text.lower() or (floor != 0 and 1 / APART < abs(worst / floor) < APART)
        return Measure(words, of, min((floor if alike else worst) if lower else 0.0, worst), True, sign)

    def end(ran: Ran) -> float:
        return -Result(losses=[loss for _, loss in ran.losses]).train_loss

    return Measure("the training loss at the end", end, floor, False)


def worsens(first: Ran) -> bool:
    """Whether the validation loss, or what the script reads of its evaluations, became worse on the way."""
    series = [(first.validation, True)]
    for _, _, text, values in first.readings:
        lower, higher = bool(LOWER.search(text)), bool(HIGHER.search(text))
        if lower is not higher and len(values) > 2:
            series.append((values, lower))
            break
    return any(len(values) > 2 and (values[-1][1] > values[0][1]) is lower for values, lower in series)


def _last(series: Sequence[Sequence[float]]) -> float:
    """The mean of the last two evaluations; of one, where there are few."""
    values = [value for _, value in series]
    return mean(values[-2:] if len(values) > 4 else values[-1:]) if values else math.nan
