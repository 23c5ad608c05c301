"""Does data augmentation help where data are few?

After lecture 001; mixup: Zhang et al. 2018, "mixup: Beyond empirical risk minimization".
"""

from __future__ import annotations

from levelhead.studies import drawing
from levelhead.studies.claims import Claim, points, values
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.views import Rows

ARMS = {"none": [], "affine": ["affine"], "noise": ["noise"], "mixup": ["mixup"]}


STUDY = Lecture(
    name="augmentation",
    QUESTION="Does data augmentation help where data are few?",
    setting="Affine moves by up to a tenth of the size, scales by up to a tenth and shears by up to 10 degrees; "
    "noise has a tenth of the deviation; mixup has α 0.2.",
    view=Rows(200),
    recipe={"depth": 2, "width": 200, "steps": 600, "initialization": "he"},
    quick={"steps": 200},
    arms={name: Arm({"augmentation": names}) for name, names in ARMS.items()},
    claims=(
        *(
            Claim(
                text=text,
                source=source,
                effect=f"validation {{metric}} at the end, {arm} less none",
                measure=points("last", arm, "none", "validation_score"),
                unit="percentage points",
            )
            for text, source, arm in (
                ("Data augmentation regularizes: moved and sheared digits help.", "lecture 001", "affine"),
                ("Random noise during training regularizes: noise on the inputs helps.", "lecture 001", "noise"),
                ("Mixing examples helps.", "Zhang et al. 2018", "mixup"),
            )
        ),
        Claim(
            text="Data augmentation reduces overfitting.",
            source="lecture 001",
            effect="validation loss at the end, affine less none",
            measure=values("last", "affine", "none", "validation_loss"),
            side="below",
            unit="nats",
            delta=0.02,
        ),
    ),
    draw=drawing.each(drawing.at_the_end, drawing.over_training(title="Over training")),
)
