"""Does batch normalization make the loss smoother and its gradients more predictive?

After Santurkar et al. 2018, "How does batch normalization help optimization?", section 3.1 and figure 4.
"""

from __future__ import annotations

from levelhead.studies import drawing, observers
from levelhead.studies.claims import Claim, values
from levelhead.studies.frame import Arm, Lecture

LABELS = {
    "variation": "range of the loss along the gradient",
    "unpredicted": "largest change of the gradient along itself",
    "smoothness": "effective β-smoothness",
}
TITLES = {
    "variation": "How much the loss varies along the gradient",
    "unpredicted": "How much the gradient changes along itself",
    "smoothness": "Effective smoothness: change of the gradient over the length of the way",
}


def _claim(text: str, name: str) -> Claim:
    return Claim(
        text=text,
        source="lecture 002",
        effect=f"{LABELS[name]}, geometric mean over training, with batch norm over without",
        measure=values("geometric", "BN", "plain", name),
        side="below",
        threshold=1.0,
        unit="times",
    )


STUDY = Lecture(
    name="landscape",
    QUESTION="Does batch normalization make the loss smoother and its gradients more predictive?",
    setting="With and without batch norm. At each evaluation the loss and its gradient are taken at eight places "
    "along the gradient, over 250 training rows.",
    DATA="digits",
    recipe={"depth": 6, "learning_rate": 0.1, "steps": 600, "initialization": "he"},
    quick={"steps": 200},
    arms={"plain": Arm(), "BN": Arm({"normalization": "batch"})},
    observe=observers.landscape,
    claims=(
        _claim("Batch normalization lets the loss vary less along the gradient.", "variation"),
        _claim("Batch normalization makes gradients more predictive.", "unpredicted"),
        _claim("Batch normalization makes the landscape significantly more smooth.", "smoothness"),
    ),
    draw=drawing.each(
        *(
            drawing.over_training(
                name=name, title=TITLES[name], label=LABELS[name], log_y=True, note="Steps of 0.5 to 4 learning rates."
            )
            for name in LABELS
        )
    ),
    notes=(
        "Over the whole of training: a network that learns faster is nearer to its optimum, where all three are "
        "smaller.",
    ),
)
