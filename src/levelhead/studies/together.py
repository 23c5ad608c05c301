"""Every study of the lectures' claims, one after the other, in one folder and with one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from levelhead import report
from levelhead.lessons import Answer
from levelhead.records import environment, write_json
from levelhead.studies.jobs import ArmFailedError, StudyError, locked
from levelhead.studies.pool import Pool, Watcher
from levelhead.studies.registry import LECTURES, complete, find, run_in
from levelhead.studies.settings import Settings
from levelhead.studies.workers import Train

if TYPE_CHECKING:
    from levelhead.data import Dataset


def complete_all(settings: Settings) -> Settings:
    """The settings of a run of all studies, with their folder.

    Raises:
        SettingsError: they ask for what is a single study's own.
    """
    settings.refuse(
        ("data", "target", "target_score", "arms", "recipe", "depths", "learning_rates", "initializations"),
        "--all runs every study on its own terms and takes no {}; run one by its name",
    )
    return settings.changed(out=settings.out or ("reports/all-quick" if settings.quick else "reports/all"))


def run_all(
    settings: Settings,
    *,
    load: Callable[..., Dataset],
    watcher: Watcher,
    names: Sequence[str] = (),
    train: Train | None = None,
) -> list[Answer]:
    """Run the studies in ``settings.out``, a subfolder each; each goes on from where an earlier start left it.

    A study in which all runs of an arm fail is left out, and it is said; the others go on.

    Args:
        settings: of which ``quick``, ``seeds``, where the runs are made, ``accelerator`` and ``out`` hold for all.
        load: gives a data set by name, with or without ``standardize``.
        watcher: is told of the progress.
        names: which studies; all of them where empty.
        train: as in ``Pool``.

    Raises:
        SettingsError: the settings ask for what is a single study's own.
        StudyError: the folder or the workers stop it, or every study failed; the message says what is kept.
    """
    settings = complete_all(settings)
    folder = settings.folder
    names = list(names or LECTURES)
    answers: dict[str, Answer] = {}
    options = {} if train else {"accelerator": settings.accelerator}
    loaded: dict[tuple[str, bool], Dataset] = {}
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        pool: Pool | None = None
        for place, name in enumerate(names, start=1):
            watcher.say(f"Study {place} of {len(names)}: {name}. {find(name).QUESTION}")
            own = complete(settings.changed(study=name, out=str(folder / name)))
            key = (str(own.data), bool(own.standardize))
            if key not in loaded:
                loaded[key] = load(key[0], standardize=key[1])
            if pool is None:
                pool = stack.enter_context(
                    Pool(loaded[key], **settings.place, train=train, options=options, watcher=watcher)
                )
            pool.use(loaded[key])
            with locked(own.folder):
                try:
                    answers[name] = run_in(own, loaded[key], pool, own.folder)
                except ArmFailedError as error:
                    watcher.say(f"The study {name} is left out: {error}")
        if not answers:
            raise StudyError(f"no study came to an end; the runs are in {folder}")
        index = {"studies": list(answers), "quick": settings.quick, "environment": environment()}
        write_json(folder / "all.json", index)
        report.write(folder)
    return list(answers.values())
