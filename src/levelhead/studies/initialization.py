"""How much does training depend on the initial weights, with batch normalization and without?

The scales are those of the slides (CS231n): zero, 0.01, 1, and calibrated to n Var(w) = 2 for ReLU (He et al. 2015).
"""

from __future__ import annotations

from levelhead.records import Chart
from levelhead.studies import drawing, observers
from levelhead.studies.claims import Claim, points
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples

STARTS = {
    "zero": {"initialization": "zero"},
    "small": {"initialization": "small"},
    "large": {"initialization": "large"},
    "calibrated": {"initialization": "he"},
}
NORMS = {"plain": "none", "BN": "batch"}
RANDOM = ("small", "large", "calibrated")
DEPTH, CALIBRATED = 5, "plain calibrated"
#: What the variance of a layer's sums is held against, by the name of the curve.
FORMULAS = {"centred": "n Var(w) Var(x)", "variance": "n Var(w) E[x²]"}


def _variance(text: str, name: str, layer: int, where: str) -> Claim:
    return Claim(
        text=text,
        source="lecture 001 (Var(s) = n Var(w) Var(x), for inputs without a mean)",
        effect=f"variance of the sums of the {where} hidden layer before training over {FORMULAS[name]}, less 1, "
        "calibrated",
        measure=lambda samples, seed: 100 * (samples.first(CALIBRATED, seed, f"{name}/{layer}") - 1),
        side="within",
        threshold=20.0,
        unit="per cent",
    )


def _range(samples: Samples, norm: str, seed: int) -> float:
    scores = [samples.best(f"{norm} {start}", seed) for start in RANDOM]
    return 100 * (max(scores) - min(scores))


def _sensitivity(samples: Samples, seed: int) -> tuple[float, float]:
    return _range(samples, "BN", seed), _range(samples, "plain", seed)


def _draw(samples: Samples) -> list[Chart]:
    groups = {norm: lambda start, seed, norm=norm: 100 * samples.best(f"{norm} {start}", seed) for norm in NORMS}
    return [
        drawing.bars(samples, list(STARTS), "What each start comes to", "best validation {metric}, %", groups),
        drawing.curves(samples, samples.arms, "train_loss", "The way there", "training loss", log_y=True),
        drawing.points(
            "The variance of a layer's sums before training, calibrated",
            "hidden layer",
            "over what the formula says",
            {label: samples.by_layer(CALIBRATED, "first", name, DEPTH) for name, label in FORMULAS.items()},
        ),
    ]


STUDY = Lecture(
    name="initialization",
    QUESTION="How much does training depend on the initial weights, with batch normalization and without?",
    setting="Weights are all zero, "
    "normal of deviation 0.01 (small) or 1 (large), or calibrated to the number of inputs (He); biases are zero.",
    DATA="digits",
    recipe={"depth": DEPTH, "steps": 500},
    quick={"steps": 200},
    arms={
        f"{norm} {start}": Arm({"normalization": name, **fields})
        for norm, name in NORMS.items()
        for start, fields in STARTS.items()
    },
    observe=observers.variances,
    claims=(
        _variance("The first layer's sums have the variance n Var(w) Var(x).", "centred", 1, "first"),
        _variance("Behind ReLUs a layer's sums have the variance n Var(w) Var(x).", "centred", DEPTH, "last"),
        _variance("A layer's sums have the variance n Var(w) E[x²].", "variance", DEPTH, "last"),
        Claim(
            text="Batch normalization makes training less sensitive to the initialization.",
            source="lectures 002, 003, 004",
            effect="range of the best {metric} over small, large and calibrated weights, with batch norm less without",
            measure=_sensitivity,
            side="below",
            unit="percentage points",
        ),
        Claim(
            text="Initializing all weights to zero is a pitfall.",
            source="lecture 001",
            effect="best {metric} without batch norm, calibrated less zero",
            measure=points("best", "plain calibrated", "plain zero"),
            unit="percentage points",
        ),
        Claim(
            text="Calibrated random numbers train better than small ones.",
            source="lecture 001",
            effect="best {metric} without batch norm, calibrated less small",
            measure=points("best", "plain calibrated", "plain small"),
            unit="percentage points",
        ),
    ),
    draw=_draw,
)
