"""One training run that a study wants, the file that keeps it, and whether that file can be taken as it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levelhead import references
from levelhead.records import Run, environment, read_json
from levelhead.studies.experiment import PLAIN, Experiment

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training import Recipe


class StudyError(RuntimeError):
    """A study cannot go on; the message says why, what is kept, and what to do."""


class ArmFailedError(StudyError):
    """Every run of an arm raised, so that the study has no answer; others may."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to be made: the arm it is a sample of, its recipe (with the seed), and the file that keeps it.

    ``group`` names the progress bar that it counts for; without ``probe`` only losses and scores are measured;
    ``experiment`` is what it has beside the recipe.
    """

    arm: str
    recipe: Recipe
    path: Path
    group: str
    probe: bool = True
    experiment: Experiment = PLAIN

    @classmethod
    def of(
        cls,
        arm: str,
        recipe: Recipe,
        folder: Path,
        group: str = "",
        *,
        probe: bool = True,
        experiment: Experiment = PLAIN,
    ) -> Job:
        """The job whose file is ``<folder>/runs/<arm>-<seed>.json``."""
        path = folder / "runs" / f"{file_name(arm)}-{recipe.seed}.json"
        return cls(arm, recipe, path, group or arm, probe, experiment)

    @property
    def asked(self) -> dict[str, str]:
        """What is asked for beside the recipe, with a checksum of the code that it is: what changed is run again."""
        network, _, _ = self.recipe.network.rpartition(":")
        return self.experiment.asked | ({"network": references.source(network)} if network else {})


def file_name(arm: str) -> str:
    """A name that every file system takes; a digest keeps two arms apart that would come out the same."""
    safe = re.sub(r"[^A-Za-z0-9_.=-]+", "_", arm)[:80].lstrip(".")
    return safe if safe and safe == arm else f"{safe or 'arm'}-{hashlib.sha256(arm.encode()).hexdigest()[:8]}"


def kept(job: Job, data: dict[str, Any], asked: dict[str, str]) -> tuple[Run | None, str]:
    """The run of an earlier start, if it is of the same recipe, data and code; else None and the reason, if any.

    A failed run is made again: its cause may be mended.
    """
    if not job.path.exists():
        return None, ""
    try:
        found = read_json(job.path)
        run = Run.load(job.path)
    except ValueError as error:
        return None, f"{job.path.name} is damaged ({error}) and is run again"
    if run.status == "failed":
        return None, f"{job.path.name} had failed ({run.message}) and is run again"
    recipe = job.recipe.to_dict()
    for name, kept_value, value in (
        ("recipe", found["recipe"], recipe),
        ("data", found["data"], data),
        ("measurement", found.get("asked", {}), asked),
    ):
        if _plain(kept_value) != _plain(value):
            return None, f"{job.path.name} is of another {name} ({_difference(kept_value, value)}) and is run again"
    return (run, "") if run.arm == job.arm else (None, f"{job.path.name} is of arm {run.arm} and is run again")


def failed(job: Job, data: dict[str, Any], message: str) -> Run:
    """The record of a run that raised; ``data`` as ``described`` gives it."""
    return Run(
        arm=job.arm,
        seed=job.recipe.seed,
        status="failed",
        steps=0,
        seconds=0.0,
        metric=data.get("metric", "accuracy" if data["task"] == "classification" else "r2"),
        recipe=job.recipe.to_dict(),
        data=data,
        curves={},
        message=message,
        environment=environment(),
    )


def described(data: Dataset) -> dict[str, Any]:
    """What the runs say of their data: its description, and a checksum of its values."""
    from levelhead.training.checkpoints import fingerprint

    return {**data.describe(), "checksum": fingerprint(data)}


def save(run: Run, path: Path) -> None:
    """Store a run.

    Raises:
        StudyError: the file cannot be written; the message says what to do.
    """
    try:
        run.save(path)
    except OSError as error:
        raise StudyError(
            f"cannot store {path} ({error.strerror}). The finished runs are kept: make room, then start again"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two studies never write the same runs; a killed holder lets go by itself.

    Raises:
        StudyError: the folder cannot be written, or another study holds it.
    """
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise StudyError(f"cannot write to {folder} ({error.strerror}); choose another folder with --out") from error
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no such lock on Windows: there the user takes care
            pass
        except OSError as error:
            raise StudyError(f"another study is running in {folder}; wait for it or choose another --out") from error
        for left_over in (folder / "runs").glob(".*.json.*"):  # of a writer that was killed
            left_over.unlink(missing_ok=True)
        yield


def _plain(value: object) -> Any:
    """As JSON would give it back: tuples are lists."""
    return json.loads(json.dumps(value, default=str))


def _difference(old: object, new: object) -> str:
    old, new = _plain(old), _plain(new)
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        return ", ".join(f"{name} {old.get(name)!r}, now {new.get(name)!r}" for name in names[:3])
    return "not comparable"
