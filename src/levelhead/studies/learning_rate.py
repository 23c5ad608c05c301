"""Does batch normalization allow higher learning rates, and a wider range of them?

After Ioffe & Szegedy 2015, section 3.3, and Bjorck et al. 2018, "Understanding batch normalization", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from levelhead.studies import drawing
from levelhead.studies.claims import Claim
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples

#: Two a decade, from where nothing moves to where nothing trains.
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SHARE = 0.9
#: Decades between two rates: two figures that are known to it differ by an error of this deviation, GRID / √6.
GRID = 0.5
IN_DECADES: dict[str, Any] = {"unit": "decades", "delta": GRID / 2, "floor": GRID / math.sqrt(6)}


def by_rate(rates: Sequence[float], **kinds: Arm) -> dict[str, Arm]:
    """Arms of several kinds at each learning rate."""
    return {
        f"{kind} lr{rate:g}": replace(arm, fields={**arm.fields, "learning_rate": rate})
        for kind, arm in kinds.items()
        for rate in rates
    }


def chart(*kinds: str, rates: Sequence[float] = RATES) -> drawing.Draw:
    """What each kind comes to at each rate."""
    return drawing.by_setting(
        "What each learning rate comes to",
        "learning rate",
        "best validation {metric}, %",
        {kind: {rate: f"{kind} lr{rate:g}" for rate in rates} for kind in kinds},
        "best",
        log_x=True,
        note="A run that diverged counts by what it had reached.",
    )


def good(samples: Samples, seed: int, *kinds: str, rates: Sequence[float] = RATES) -> list[list[float]]:
    """Of each kind, the rates at which it comes to 90 % of the best that any of them has with this seed."""
    scores = [{rate: samples.best(f"{kind} lr{rate:g}", seed) for rate in rates} for kind in kinds]
    best = max(score for found in scores for score in found.values())
    return [[rate for rate, score in found.items() if score >= SHARE * best] for found in scores]


def highest(samples: Samples, seed: int, *kinds: str, rates: Sequence[float] = RATES) -> tuple[float, float]:
    """The highest good rates of two kinds, in decades."""
    one, other = (math.log10(max(found, default=math.nan)) for found in good(samples, seed, *kinds, rates=rates))
    return one, other


def _width(samples: Samples, seed: int) -> tuple[float, float]:
    normed, plain = good(samples, seed, "BN", "plain")
    return GRID * len(normed), GRID * len(plain)


STUDY = Lecture(
    name="learning-rate",
    QUESTION="Does batch normalization allow higher learning rates, and a wider range of them?",
    setting="A constant learning rate, two rates a decade. A rate is good where the best validation {metric} is at "
    "least 90 % of the best that any of the runs has with the same seed.",
    recipe={"depth": 3, "steps": 400},
    quick={"steps": 200},
    arms=by_rate(RATES, plain=Arm(), BN=Arm({"normalization": "batch"})),
    claims=(
        Claim(
            text="Batch normalization allows higher learning rates.",
            source="lectures 001, 002, 004",
            effect="highest good learning rate, with batch norm over without",
            measure=lambda samples, seed: highest(samples, seed, "BN", "plain"),
            **IN_DECADES,
        ),
        Claim(
            text="Batch normalization allows a larger range of learning rates.",
            source="lecture 002",
            effect="range of good learning rates, with batch norm less without",
            measure=_width,
            **IN_DECADES,
        ),
    ),
    draw=drawing.each(chart("plain", "BN")),
    notes=(
        "Changed after a first look: the depth was 6, where the plain network came to 90 % of batch norm's best at no "
        "rate within the steps of a quick run, so that there was no range to compare.",
    ),
)
