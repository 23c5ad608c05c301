"""Where should a normalization stand: before or after the activation, at the head of a block or behind it?

After Ioffe & Szegedy 2015, section 3.2, and Xiong et al. 2020, "On layer normalization in the transformer
architecture".
"""

from __future__ import annotations

from typing import Any

from levelhead.studies import drawing
from levelhead.studies.claims import Claim, points
from levelhead.studies.frame import Arm, Lecture

NET = "levelhead.studies.networks"
PLACES: dict[str, dict[str, Any]] = {
    f"{place} {activation}": {"placement": place, "activation": activation, "normalization": "batch"}
    for activation in ("relu", "sigmoid")
    for place in ("before", "after")
}
RESIDUAL: dict[str, dict[str, Any]] = {
    f"{place}-norm": {"network": f"{NET}:{place}_norm", "normalization": "layer", "depth": 12}
    for place in ("pre", "post")
}


def _claim(text: str, source: str, one: str, other: str) -> Claim:
    return Claim(
        text=text,
        source=source,
        effect=f"validation {{metric}}, mean over training, {one} less {other}",
        measure=points("mean", one, other, "validation_score", 1),
        unit="percentage points",
    )


STUDY = Lecture(
    name="where-to-normalize",
    QUESTION="Where should a normalization stand: before or after the activation, at the head of a block or behind it?",
    setting="MLPs with batch norm, and residual MLPs of 12 blocks with layer norm, without warm-up. The mean over "
    "training rewards both speed and height.",
    DATA="digits",
    recipe={"depth": 5, "width": 50, "steps": 500},
    quick={"steps": 200},
    arms={name: Arm(fields) for name, fields in {**PLACES, **RESIDUAL}.items()},
    claims=(
        _claim(
            "Batch normalization belongs between the weights and the activation, σ(BN(Wx + b)): with ReLU.",
            "lectures 000, 002, 003",
            "before relu",
            "after relu",
        ),
        _claim(
            "Batch normalization belongs between the weights and the activation, σ(BN(Wx + b)): with sigmoids.",
            "lectures 000, 002, 003",
            "before sigmoid",
            "after sigmoid",
        ),
        _claim(
            "A residual network trains more easily with its normalization at the head of each block.",
            "Xiong et al. 2020 (lecture 004 leaves the place open)",
            "pre-norm",
            "post-norm",
        ),
    ),
    draw=drawing.each(
        drawing.over_training(*PLACES, title="Before or after the activation"),
        drawing.over_training(*RESIDUAL, title="Residual blocks"),
    ),
)
