"""The studies by name, and the one way to run any of them."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead.lessons import Answer
from levelhead.studies.jobs import locked
from levelhead.studies.pool import Pool, Watcher
from levelhead.studies.settings import Settings, SettingsError
from levelhead.studies.study import keep
from levelhead.studies.workers import Train
from levelhead.terminal import closest

if TYPE_CHECKING:
    from levelhead.data import Dataset

#: The studies of the lectures' claims, in the order of the report; name to module.
LECTURES = {
    "batch-norm": "levelhead.studies.batch_norm",
    "learning-rate": "levelhead.studies.learning_rate",
    "initialization": "levelhead.studies.initialization",
    "input-normalization": "levelhead.studies.input_normalization",
    "saturation": "levelhead.studies.saturation",
    "covariate-shift": "levelhead.studies.covariate_shift",
    "landscape": "levelhead.studies.landscape",
    "gradient-flow": "levelhead.studies.gradient_flow",
    "weight-penalties": "levelhead.studies.weight_penalties",
    "dropout": "levelhead.studies.dropout",
    "batch-norm-regularizes": "levelhead.studies.batch_norm_regularizes",
    "divergence": "levelhead.studies.divergence",
    "augmentation": "levelhead.studies.augmentation",
    "batch-size": "levelhead.studies.batch_size",
    "inference-statistics": "levelhead.studies.inference_statistics",
    "overparameterization": "levelhead.studies.overparameterization",
    "where-to-normalize": "levelhead.studies.where_to_normalize",
    "architecture": "levelhead.studies.architecture",
}
#: All studies. Each is a module, or the ``STUDY`` in it, with a ``QUESTION``, its ``DATA``, whether it takes them with
#: ``STANDARDIZE``, and ``run(settings, data, pool, folder)``.
STUDIES = {**LECTURES, "compare": "levelhead.studies.compare"}


def find(name: str) -> Any:
    """A study.

    Raises:
        SettingsError: there is none of that name; the message suggests the closest.
    """
    if name not in STUDIES:
        hint = closest(name, STUDIES)
        raise SettingsError(f"there is no study {name!r}{hint}; there is {', '.join(STUDIES)}, or give a .toml file")
    module = import_module(STUDIES[name])
    return getattr(module, "STUDY", module)


def questions() -> dict[str, str]:
    """Every study's ``QUESTION``, from its source: to import them all takes torch, and seconds."""
    found = {}
    for name, module in STUDIES.items():
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
            match node:
                case ast.Assign(targets=[ast.Name("QUESTION")], value=ast.Constant(str(question))):
                    found[name] = question
                case ast.keyword("QUESTION", ast.Constant(str(question))):
                    found[name] = question
    return found


def complete(settings: Settings) -> Settings:
    """The settings with the study's own data where they name none.

    Raises:
        SettingsError: there is no study of that name.
    """
    study = find(settings.study)
    return settings.changed(
        data=study.DATA if settings.data is None else None,
        standardize=study.STANDARDIZE if settings.standardize is None else None,
    )


def run(settings: Settings, data: Dataset, *, watcher: Watcher | None = None, train: Train | None = None) -> Answer:
    """Run the study that the settings name, from where an earlier start left it; store its answer, report and settings.

    Raises:
        SettingsError, RecipeError: the settings cannot be.
        StudyError: the folder, a disk or the workers stop it; the message says what is kept.
    """
    settings = complete(settings)
    folder = settings.folder
    options = {} if train else {"accelerator": settings.accelerator}
    with (
        locked(folder),
        Pool(data, **settings.place, train=train, options=options, watcher=watcher) as pool,
    ):
        return run_in(settings, data, pool, folder)


def run_in(settings: Settings, data: Dataset, pool: Pool, folder: Path) -> Answer:
    """Run a study in a pool that is there; store its answer and report, and its settings.

    Raises:
        SettingsError, RecipeError, StudyError: as ``run``.
    """
    found: Answer = find(settings.study).run(settings, data, pool, folder)
    keep(found, folder, settings.to_toml())
    return found
