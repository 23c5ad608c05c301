"""Does batch normalization mitigate vanishing gradients?

After Ioffe & Szegedy 2015, section 3.3; Glorot & Bengio 2010, section 4.2, for the gradients of sigmoids by depth.
"""

from __future__ import annotations

from levelhead.studies import drawing, observers
from levelhead.studies.claims import Claim, Measure, values
from levelhead.studies.frame import Arm, Lecture

DEPTH = 8


def _less(activation: str, *, start: bool) -> Measure:
    arms = (f"BN {activation}", f"plain {activation}")
    return values("first", *arms, "decay") if start else values("mean", *arms, "decay", 1)


def _claim(text: str, activation: str, *, start: bool) -> Claim:
    when = "before the first step" if start else "mean over training"
    return Claim(
        text=text,
        source="lecture 002",
        effect=f"decades between the first and the last hidden layer's gradient, {when}, with batch norm less without",
        measure=_less(activation, start=start),
        side="below",
        unit="decades",
    )


STUDY = Lecture(
    name="gradient-flow",
    QUESTION="Does batch normalization mitigate vanishing gradients?",
    setting="Xavier initialization. The norm of the gradient in each layer's weights, over 250 training rows. An "
    "even flow has 0 decades between layers, and a gradient that grows towards the input counts as one that "
    "vanishes.",
    DATA="digits",
    recipe={"depth": DEPTH, "width": 50, "initialization": "xavier", "steps": 400},
    quick={"steps": 150},
    arms={
        f"{norm} {activation}": Arm({"normalization": name, "activation": activation})
        for activation in ("sigmoid", "relu")
        for norm, name in (("plain", "none"), ("BN", "batch"))
    },
    observe=observers.flow,
    claims=(
        _claim("At the start, gradients of sigmoid layers vanish less with batch norm.", "sigmoid", start=True),
        _claim("During training, gradients of sigmoid layers vanish less with batch norm.", "sigmoid", start=False),
        _claim("During training, gradients of ReLU layers flow more evenly with batch norm.", "relu", start=False),
    ),
    draw=drawing.each(
        lambda samples: drawing.points(
            "Gradients by layer before the first step",
            "layer",
            "gradient norm",
            {arm: samples.by_layer(arm, "first", "gradient", DEPTH + 1) for arm in samples.arms},
            log_y=True,
        ),
        drawing.over_training(
            name="decay", title="From the last hidden layer's gradient to the first's", label="decades"
        ),
        drawing.over_training(title="What comes of it"),
    ),
)
