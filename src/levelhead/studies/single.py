"""One run, as the command line shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from levelhead import terminal
from levelhead.lessons import score
from levelhead.records import Run

if TYPE_CHECKING:
    from rich.console import Console

    from levelhead.data import Dataset
    from levelhead.training import Recipe


def train_one(recipe: Recipe, data: Dataset, folder: Path, console: Console, *, accelerator: str = "auto") -> Run:
    """Train one recipe with a progress bar; keep checkpoints, weights and ``run.json`` in the folder.

    Raises:
        RecipeError: recipe and data do not go together.
        CheckpointError: the folder's checkpoint is damaged or of another run.
    """
    from levelhead.training import train

    with terminal.bar("training", "steps", console) as progress:
        run = train(recipe, data, arm=folder.name, folder=folder, progress=progress, accelerator=accelerator)
    run.save(folder / "run.json")
    return run


def sum_up(run: Run) -> str:
    """What came out of a run, in a sentence."""
    best = run.score.best()
    at = run.score.first_step_at(best)
    text = (
        f"Best validation {run.metric} {score(best, run.metric)} at step {at:,}; test {run.metric} there "
        f"{score(run.test_score, run.metric)}; {run.steps:,} steps, {run.seconds:.1f} s."
        if at is not None
        else f"No validation {run.metric} was finite; {run.steps:,} steps."
    )
    return f"{text} {run.status.capitalize()}: {run.message}." if run.message else text
