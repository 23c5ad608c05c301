"""Runs in parallel, by processes of this machine or of a Ray cluster; nothing that finished is ever lost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from levelhead.records import Run
from levelhead.studies.jobs import ArmFailedError, Job, StudyError, described, failed, kept, save
from levelhead.studies.workers import Crew, Package, Processes, Train, Worker, check_engine, cores

if TYPE_CHECKING:
    from levelhead.data import Dataset

#: A run whose worker was killed is tried again in a new one, once.
_ATTEMPTS = 2
#: Seeds that a worker trains as one, at most: more save little, and are more to lose when it is stopped.
TOGETHER = 5


class Watcher:
    """What is told of a study's progress, and does nothing with it; ``studies.display`` draws it."""

    def stage(self, title: str, jobs: Sequence[Job]) -> None:
        """A group of runs begins."""

    def step(self, job: Job, done: int) -> None:
        """A run has done so many updates."""

    def end(self, job: Job, run: Run, reused: bool) -> None:
        """A run is stored, or was found."""

    def say(self, text: str) -> None:
        """Something that a person should know."""


def preflight(jobs: Sequence[Job], data: Dataset) -> None:
    """Build the network of every arm once, which passes two rows through a user's own, and look at the batch size.

    Raises:
        ArmFailedError: a network or a batch size does not go with the data; nothing is run.
    """
    from levelhead.training.batches import Batches
    from levelhead.training.networks import build

    for job in {job.arm: job for job in jobs}.values():
        try:
            seen = job.experiment.seen(data, job.recipe.seed)
            Batches(seen.train.inputs, seen.train.targets, job.recipe.batch_size, job.recipe.seed)
            build(job.recipe, seen)
        except Exception as error:  # a user's network may raise anything
            raise ArmFailedError(f"arm {job.arm!r}: {error}; nothing was run") from error


class Pool:
    """Workers that make runs; they start with the first, are given the data once, and end with the pool.

    The seeds of one recipe that can be trained as one network are given to a worker together.

    Args:
        data: what every run trains on.
        workers: how many; by default one a core that this process may use, or one a CPU of the cluster.
        train: the training function; must be importable by a new process.
        options: keyword arguments for it, beyond recipe, data, arm, progress and probe (``accelerator``, ...).
        watcher: what is told of the progress.
        engine: ``local`` for processes of this machine, ``ray`` for actors of a Ray cluster.
        address: of the cluster; by default the one that ``RAY_ADDRESS`` names or this machine runs, else a new one.

    Raises:
        ValueError: fewer than one worker, or an engine that there is not.
        StudyError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        workers: int | None = None,
        train: Train | None = None,
        options: dict[str, Any] | None = None,
        watcher: Watcher | None = None,
        engine: str = "local",
        address: str | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"a study needs at least one worker, got workers={workers}")
        check_engine(engine, address)
        self.data = data
        self.watcher = watcher or Watcher()
        self._package = Package(data, described(data), train, options or {})
        self._workers: list[Worker] = []
        self._crew: Crew = Processes()
        self.size = workers or cores()
        if engine == "ray":
            from levelhead.studies.cluster import Actors

            self._crew = actors = Actors(address)
            self.size = workers or actors.cpus()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.close()
        self._workers.clear()

    def use(self, data: Dataset) -> None:
        """Go on with other data: the workers are given it, and need not start anew."""
        self.data = data
        self._package = replace(self._package, data=data, described=described(data))
        self._crew.use(self._package)

    def run(self, title: str, jobs: Sequence[Job]) -> list[Run]:
        """Make the runs that are not there yet, and return all of them in the order of the jobs.

        Raises:
            StudyError: a run could not be stored (a full disk), or workers do not start; ``ArmFailedError`` where
                an arm's network cannot be built, which is told before any run.
        """
        self.watcher.stage(title, jobs)
        found: dict[int, Run] = {}
        for index, job in enumerate(jobs):
            run, reason = kept(job, self._package.described, self._package.asked(job))
            if run is not None:
                found[index] = run
                self.watcher.end(job, run, True)
            elif reason:
                self.watcher.say(reason)
        missing = {index: job for index, job in enumerate(jobs) if index not in found}
        if self._package.train is None:
            preflight(list(missing.values()), self.data)
        todo = deque((group, 1) for group in self._groups(missing))
        while len(self._workers) < min(self.size, len(todo)):
            self._workers.append(self._crew.start(self._package))
        while len(found) < len(jobs):
            for worker in self._workers:
                if worker.ready and worker.task is None and todo:
                    worker.task = todo.popleft()
                    self._crew.give(worker, [jobs[index] for index in worker.task[0]])
            for worker, message in self._crew.wait():
                match message:
                    case ("ready",):
                        worker.ready = True
                    case ("step", int(done)) if worker.task:
                        for index in worker.task[0]:
                            self.watcher.step(jobs[index], done)
                    case ("made", list(runs)) if worker.task:
                        self._store(dict(zip(worker.task[0], runs, strict=True)), jobs, found)
                        worker.task = None
                    case ("dead", str(why)):
                        todo.extendleft(self._replace(worker, why, jobs, found))
        return [found[index] for index in range(len(jobs))]

    def _groups(self, jobs: Mapping[int, Job]) -> list[tuple[int, ...]]:
        """The jobs that a worker is given together: those that are one network but for the seed, shared out evenly."""
        most = min(TOGETHER, math.ceil(len(jobs) / self.size)) if jobs and self._package.train is None else 1
        from levelhead.training.stacked import stackable

        alike: dict[object, list[int]] = {}
        for index, job in jobs.items():
            key = (job.arm, job.recipe.replace(seed=0), job.probe, repr(job.asked)) if stackable(job.recipe) else index
            alike.setdefault(key, []).append(index)
        return [tuple(some[i : i + most]) for some in alike.values() for i in range(0, len(some), most)]

    def _store(self, made: Mapping[int, Run], jobs: Sequence[Job], found: dict[int, Run]) -> None:
        for index, run in made.items():
            save(replace(run, asked=self._package.asked(jobs[index])), jobs[index].path)
            found[index] = Run.load(jobs[index].path)
            self.watcher.end(jobs[index], found[index], False)

    def _replace(
        self, worker: Worker, why: str, jobs: Sequence[Job], found: dict[int, Run]
    ) -> list[tuple[tuple[int, ...], int]]:
        """Put a new worker where one died; what it was at is to be done again, one by one, or has failed."""
        self._workers.remove(worker)
        if not worker.ready:
            raise StudyError(
                f"a worker ended as it started {why}. In a script of your own, put what starts the study under: "
                "if __name__ == '__main__':"
            )
        self._workers.append(self._crew.start(self._package))
        if worker.task is None:
            return []
        (indices, attempt), reason = worker.task, f"its worker process was killed {why}; out of memory?"
        if attempt < _ATTEMPTS:
            self.watcher.say(f"{', '.join(jobs[index].path.name for index in indices)}: {reason} It is tried again.")
            return [((index,), attempt + 1) for index in indices]
        self._store({index: failed(jobs[index], self._package.described, reason) for index in indices}, jobs, found)
        return []
