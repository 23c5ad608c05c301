"""Which of your own recipes trains best? No sweep: every arm is run as its TOML table says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from levelhead.lessons import Answer
from levelhead.studies import arms as arm_settings
from levelhead.studies.settings import SettingsError
from levelhead.studies.study import Study

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.studies.pool import Pool
    from levelhead.studies.settings import Settings

QUESTION = "Which of these recipes reaches 98 % of the first one's best score in the fewest steps?"
DATA, STANDARDIZE = "mnist5k", True


def run(settings: Settings, data: Dataset, pool: Pool, folder: Path) -> Answer:
    """Run every arm.

    Raises:
        SettingsError: no arm is defined, or one is empty.
        RecipeError: a recipe's field cannot be.
        StudyError: the runs cannot be made or stored.
    """
    if not settings.arms:
        raise SettingsError("the study 'compare' needs arms: tables [arms.NAME] in a TOML file, the baseline first")
    base = arm_settings.shared(settings.recipe, {}, len(data.train))
    arms = {name: arm_settings.build(base, {name: fields})[name] for name, fields in settings.arms.items()}
    study = Study(QUESTION, data, arms, settings.seed_count, settings.target_score, "compare")
    return study.within(pool, folder, quick=settings.quick)
