"""Studies: a question, arms and seeds; the runs; the answer with its intervals."""

from levelhead.studies.jobs import StudyError
from levelhead.studies.pool import Pool
from levelhead.studies.registry import STUDIES, find, run
from levelhead.studies.settings import Settings, SettingsError
from levelhead.studies.study import Study

__all__ = ["STUDIES", "Pool", "Settings", "SettingsError", "Study", "StudyError", "find", "run"]
