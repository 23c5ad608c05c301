"""The claims that the study batch-norm judges: the table of lecture 001, on a small network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from levelhead.lessons import Lesson
from levelhead.records import Answer, Run
from levelhead.studies import drawing
from levelhead.studies.claims import Claim, steps_ratio
from levelhead.studies.outcome import SHARE
from levelhead.studies.samples import Samples

if TYPE_CHECKING:
    from levelhead.studies.settings import Settings

SETTING = (
    "The table of lecture 001 (after Ioffe & Szegedy 2015, section 4.2.1) on an MLP of 6 hidden layers of 100 units "
    "and 3,000 MNIST digits. The plain network has the best learning rate and initialization of a sweep; the others "
    "take these, the learning rate times 1, 5 or 30. Steps are counted to 98 % of the plain network's median best "
    "accuracy; of a run that does not get there it is known only that it needs more than it was given."
)


def lesson(answer: Answer, settings: Settings) -> Lesson:
    """The verdicts of a finished study, from its answer and its run files."""
    folder = settings.folder
    runs = [Run.load(folder / name) for name in answer.runs]
    samples = Samples.of(runs)
    return Lesson(
        study=answer.study,
        question=answer.question,
        setting=SETTING,
        verdicts=tuple(claim.judge(samples) for claim in _claims(answer.target)),
        charts=(
            drawing.curves(samples, samples.arms, "validation_score", "Training", "validation accuracy, %"),
            *answer.charts,
        ),
        contours=(),
        arms={row.arm: row.settings for row in answer.rows},
        recipe=next(run.recipe for run in runs if run.arm == answer.baseline),
        data=runs[0].data,
        seeds=settings.seed_count,
        quick=settings.quick,
        runs=answer.runs,
        notes=(answer.sentence, *answer.notes),
        environment=answer.environment,
    )


def _claims(target: float) -> list[Claim]:
    def faster(arm: str) -> Claim:
        return Claim(
            text=f"Batch normalization needs fewer steps to the same accuracy ({arm}).",
            source="lectures 001, 002",
            effect=f"steps to {SHARE:.0%} of the tuned plain network's median best accuracy, plain over {arm}",
            **steps_ratio("plain", arm, target),
        )

    def better(arm: str, other: str, text: str) -> Claim:
        return Claim(
            text=text,
            source="lecture 001",
            effect=f"best validation accuracy, {arm} less {other}",
            measure=lambda samples, seed: 100 * (samples.best(arm, seed) - samples.best(other, seed)),
            unit="percentage points",
        )

    return [
        faster("BN-baseline"),
        faster("BN-x5"),
        faster("BN-x30"),
        better("BN-x5", "plain", "Networks with batch norm come to a higher accuracy (BN-x5)."),
        better(
            "BN-x30", "plain", "The highest learning rate comes to a higher accuracy than the plain network (BN-x30)."
        ),
        better(
            "BN-x5-sigmoid", "plain-sigmoid", "Batch normalization lets a network of sigmoids train (BN-x5-sigmoid)."
        ),
    ]
