"""The studies by name, and the one way to run any of them."""

from __future__ import annotations

import difflib
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from levelhead.records import Answer
from levelhead.studies.jobs import StudyError, locked
from levelhead.studies.pool import Pool, Train, Watcher
from levelhead.studies.settings import Settings, SettingsError

if TYPE_CHECKING:
    from levelhead.data import Dataset

#: Name to module; each has a ``QUESTION`` and ``run(settings, data, pool, folder)``.
STUDIES = {
    "batch-norm": "levelhead.studies.batch_norm",
    "compare": "levelhead.studies.compare",
}


def find(name: str) -> ModuleType:
    """The module of a study.

    Raises:
        SettingsError: there is none of that name; the message suggests the closest.
    """
    if name not in STUDIES:
        close = difflib.get_close_matches(name, STUDIES, 1, 0.4)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise SettingsError(f"there is no study {name!r}{hint}; there is {', '.join(STUDIES)}, or give a .toml file")
    return import_module(STUDIES[name])


def run(settings: Settings, data: Dataset, *, watcher: Watcher | None = None, train: Train | None = None) -> Answer:
    """Run the study that the settings name, from where an earlier start left it; store its answer and its settings.

    Raises:
        SettingsError, RecipeError: the settings cannot be.
        StudyError: the folder, a disk or the workers stop it; the message says what is kept.
    """
    study, folder = find(settings.study), settings.folder
    options = {} if train else {"accelerator": settings.accelerator}
    with (
        locked(folder),
        Pool(data, workers=settings.workers, train=train, options=options, watcher=watcher) as pool,
    ):
        answer: Answer = study.run(settings, data, pool, folder)
        try:
            (folder / "study.toml").write_text(settings.to_toml(), encoding="utf-8")
            answer.save(folder / "answer.json")
        except OSError as error:
            raise StudyError(f"cannot write to {folder} ({error.strerror}); the runs are kept") from error
        return answer
