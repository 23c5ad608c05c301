"""How do batch, group and layer normalization bear small batches?

After Wu & He 2018, "Group normalization", figure 1, and lecture 004 on the dependence between the examples of a batch.
"""

from __future__ import annotations

from levelhead.studies import drawing
from levelhead.studies.claims import Claim, Measure
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.samples import Samples

NORMS = ("batch", "group", "layer")
SIZES = (2, 8, 32, 256)


def _arm(norm: str, size: int) -> str:
    return f"{norm} batch{size}"


def _cost(samples: Samples, norm: str, seed: int) -> float:
    small, large = (samples.best(_arm(norm, size), seed) for size in (SIZES[0], SIZES[-1]))
    return 100 * (large - small)


def _more_than(norm: str) -> Measure:
    return lambda samples, seed: (_cost(samples, "batch", seed), _cost(samples, norm, seed))


def _claim(norm: str) -> Claim:
    return Claim(
        text=f"Examples of a batch depend on each other: small batches cost batch norm more than {norm} norm.",
        source="lecture 004 (the dependence); Wu & He 2018 (its cost)",
        effect=f"best validation {{metric}} at 256 rows less that at 2, batch norm less {norm} norm",
        measure=_more_than(norm),
        unit="percentage points",
    )


STUDY = Lecture(
    name="batch-size",
    QUESTION="How do batch, group and layer normalization bear small batches?",
    setting="The same number of updates at every batch size. Small batches see fewer rows in all; layer and group "
    "norm, which do not look beyond a row, show what that costs by itself.",
    DATA="digits",
    recipe={"depth": 3, "learning_rate": 0.05, "steps": 600, "initialization": "he"},
    quick={"steps": 250},
    quick_arms=tuple(_arm(norm, size) for norm in NORMS for size in (2, 256)),
    arms={_arm(norm, size): Arm({"normalization": norm, "batch_size": size}) for norm in NORMS for size in SIZES},
    claims=(_claim("layer"), _claim("group")),
    draw=drawing.each(
        drawing.by_setting(
            "What each batch size comes to",
            "rows a batch",
            "best validation {metric}, %",
            {norm: {size: _arm(norm, size) for size in SIZES} for norm in NORMS},
            "best",
            log_x=True,
        ),
        drawing.over_training(*(_arm(norm, SIZES[0]) for norm in NORMS), title="At 2 rows"),
    ),
)
