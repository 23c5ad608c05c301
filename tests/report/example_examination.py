"""An examination with invented figures: two faults, one remark, a treatment that helped."""

from __future__ import annotations

import math

from levelhead.doctor.findings import Examination, Finding, Scores, Stage, Treated, Trial
from levelhead.doctor.rules import RULES
from levelhead.records import Chart, Line

STEPS = tuple(float(8 * i) for i in range(60))
ENVIRONMENT = {
    "command": "levelhead examine train.py:build --treat --html report.html",
    "versions": {"python": "3.11.4", "torch": "2.13.0"},
    "machine": {"system": "Linux x86_64", "processor": "a processor", "cores": 2},
    "started": "2026-11-21T12:00:00+00:00",
}


def make_finding(cause: str, severity: str, where: str, **more) -> Finding:
    known = RULES[cause]
    given = {"summary": "seen", "evidence": {}, "threshold": known.limit, "remedy": known.remedy} | more
    return Finding(known.code, cause, where, severity, meaning=known.meaning, **given)


def make_examination() -> Examination:
    raw = make_finding(
        "inputs-not-normalized",
        "critical",
        "data",
        summary="inputs run from 0 to 255, with mean 33.3 and deviation 78.6",
        evidence={"mean": 33.31842, "deviation": 78.6, "columns apart": math.inf, "layers": [0.1] * 14},
        symptoms=("97 % of the values of net.1 lie where its slope is under a twentieth", "a score of 0.1"),
        patch="mean, std = x_train.mean(), x_train.std()\nx = (x - mean) / std",
    )
    low = make_finding("learning-rate-too-low", "warning", "optimizer", patch="lr = 1.0  # instead of 0.1")
    style = make_finding("bias-before-norm", "info", "features.0")
    falls = tuple(2.3 * 0.97**i for i in range(60))
    stays = tuple(2.3 - 0.002 * i for i in range(60))
    lost = (*(2.3 * 1.2**i for i in range(40)), *(math.nan,) * 20)
    charts = (
        Chart(
            "Loss of the program and of its repair",
            "updates",
            "training loss",
            (
                Line("as it is", STEPS, stays),
                Line("inputs standardized", STEPS, falls),
                Line("ten times the rate", STEPS, lost),
            ),
            log_y=True,
        ),
        Chart(
            "Activations by layer",
            "updates",
            "output",
            tuple(
                Line(n, STEPS, (m,) * 60, (m - 0.3,) * 60, (m + 0.3,) * 60)
                for n, m in (("net.0", 0.1), ("net.1", 0.6), ("net.2", -0.4))
            ),
        ),
        Chart(
            "Learning rates",
            "learning rate",
            "score",
            (Line("score", (0.01, 0.1, 1.0), (0.1, 0.2, math.nan)),),
            log_x=True,
        ),
    )
    trials = (
        Trial("as it is", "", 0.412, 1.8, 480, 0.0, 1.2),
        Trial("inputs standardized", "inputs-not-normalized", 0.934, 0.21, 480, 0.58, 1.3),
        Trial("ten times the rate", "learning-rate-too-low", -math.inf, math.nan, 320, -math.inf, 0.9, "diverged"),
    )
    stages = (Stage("data and one batch", 0.4), Stage("short run", 1.2, "480 updates"))
    notes = ("the validation data hold 40 rows: differences of less than 0.05 are noise",)
    return Examination((raw, low, style), stages, trials, charts, {}, notes, ENVIRONMENT, 7.4)


def make_treated() -> Treated:
    return Treated(
        None,
        True,
        Scores((0.41, 0.43, 0.40)),
        Scores((0.93, 0.94, 0.92)),
        ("inputs standardized (all values together)",),
        "mean, std = x_train.mean(), x_train.std()\nx = (x - mean) / std",
        (Trial("inputs standardized", "inputs-not-normalized", 0.93, 0.2, 480, 0.58, 1.3),),
        14.0,
        "better on every seed",
    )
