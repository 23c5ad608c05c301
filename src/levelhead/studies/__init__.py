"""Studies: a question, arms and seeds; the runs; the answer or the verdicts with their intervals."""

from levelhead.studies.jobs import StudyError
from levelhead.studies.pool import Pool
from levelhead.studies.registry import LECTURES, STUDIES, complete, find, run
from levelhead.studies.settings import Settings, SettingsError
from levelhead.studies.study import Study
from levelhead.studies.together import complete_all, run_all

__all__ = [
    "LECTURES",
    "STUDIES",
    "Pool",
    "Settings",
    "SettingsError",
    "Study",
    "StudyError",
    "complete",
    "complete_all",
    "find",
    "run",
    "run_all",
]
