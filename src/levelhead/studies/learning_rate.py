"""Does batch normalization allow higher learning rates, and a wider range of them?

After Ioffe & Szegedy 2015, section 3.3, and Bjorck et al. 2018, "Understanding batch normalization", section 3.
"""

from __future__ import annotations

import math

from levelhead.records import Chart
from levelhead.studies import drawing
from levelhead.studies.claims import Claim
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples

#: Two a decade, from where nothing moves to where nothing trains.
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
NORMS = {"plain": "none", "BN": "batch"}
SHARE = 0.9
#: Decades between two rates: two figures that are known to it differ by an error of this deviation, GRID / √6.
GRID = 0.5


def _arm(norm: str, rate: float) -> str:
    return f"{norm} lr{rate:g}"


def _good(samples: Samples, norm: str, seed: int) -> list[float]:
    """The rates at which a network comes to 90 % of the best that either of the two has with this seed."""
    best = max(samples.best(arm, seed) for arm in samples.arms)
    return [rate for rate in RATES if samples.best(_arm(norm, rate), seed) >= SHARE * best]


def _width(samples: Samples, seed: int) -> tuple[float, float]:
    return len(_good(samples, "BN", seed)) / 2, len(_good(samples, "plain", seed)) / 2


def _highest(samples: Samples, seed: int) -> tuple[float, float]:
    plain, normed = (max(_good(samples, norm, seed), default=math.nan) for norm in NORMS)
    return math.log10(normed), math.log10(plain)


def _draw(samples: Samples) -> list[Chart]:
    groups = {
        norm: {rate: [100 * score for score in samples.every(_arm(norm, rate), "best")] for rate in RATES}
        for norm in NORMS
    }
    return [
        drawing.points(
            "What each learning rate comes to",
            "learning rate",
            "best validation accuracy, %",
            groups,
            log_x=True,
            note="A run that diverged counts by what it had reached.",
        )
    ]


STUDY = Lecture(
    name="learning-rate",
    QUESTION="Does batch normalization allow higher learning rates, and a wider range of them?",
    setting="A constant learning rate, two rates a decade. A rate is good where the best validation accuracy is at "
    "least 90 % of the best that any of the runs has with the same seed.",
    recipe={"depth": 3, "steps": 400},
    quick={"steps": 200},
    arms={
        _arm(norm, rate): Arm({"normalization": NORMS[norm], "learning_rate": rate}) for norm in NORMS for rate in RATES
    },
    claims=(
        Claim(
            text="Batch normalization allows higher learning rates.",
            source="lectures 001, 002, 004",
            effect="highest good learning rate, with batch norm over without",
            measure=_highest,
            unit="decades",
            delta=GRID / 2,
            floor=GRID / math.sqrt(6),
        ),
        Claim(
            text="Batch normalization allows a larger range of learning rates.",
            source="lecture 002",
            effect="range of good learning rates, with batch norm less without",
            measure=_width,
            unit="decades",
            delta=GRID / 2,
            floor=GRID / math.sqrt(6),
        ),
    ),
    draw=_draw,
    notes=(
        "Changed after a first look: the depth was 6, where the plain network came to 90 % of batch norm's best at no "
        "rate within the steps of a quick run, so that there was no range to compare.",
    ),
)
