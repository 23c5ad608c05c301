"""Runs in parallel: one process a core, one thread each; nothing that finished is ever lost."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from levelhead.allocator import tune_allocator
from levelhead.records import Run
from levelhead.studies.jobs import ArmFailedError, Job, StudyError, described, failed, kept, save

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from levelhead.data import Dataset

#: ``levelhead.training.train``, or one of the same signature.
Train = Callable[..., Run]

#: Seconds between two reports of one worker's progress.
_REPORT_EVERY = 0.1
#: A run whose worker was killed is tried again in a new one, once.
_ATTEMPTS = 2


class Watcher(Protocol):
    """What is told of a study's progress; ``studies.display`` draws it."""

    def stage(self, title: str, jobs: Sequence[Job]) -> None:
        """A group of runs begins."""

    def step(self, job: Job, done: int) -> None:
        """A run has done so many updates."""

    def end(self, job: Job, run: Run, reused: bool) -> None:
        """A run is stored, or was found."""

    def say(self, text: str) -> None:
        """Something that a person should know."""


class Silent:
    """A watcher that draws nothing."""

    def stage(self, title: str, jobs: Sequence[Job]) -> None:
        """Draw nothing."""

    def step(self, job: Job, done: int) -> None:
        """Draw nothing."""

    def end(self, job: Job, run: Run, reused: bool) -> None:
        """Draw nothing."""

    def say(self, text: str) -> None:
        """Draw nothing."""


def preflight(jobs: Sequence[Job], data: Dataset) -> None:
    """Build the network of every arm once, which passes two rows through a user's own, and look at the batch size.

    Raises:
        ArmFailedError: a network or a batch size does not go with the data; nothing is run.
    """
    from levelhead.training.batches import Batches
    from levelhead.training.networks import build

    for job in {job.arm: job for job in jobs}.values():
        view = job.experiment.view if job.experiment else None
        try:
            seen = data if view is None else view(data, job.recipe.seed)
            Batches(seen.train.inputs, seen.train.targets, job.recipe.batch_size, job.recipe.seed)
            build(job.recipe, seen)
        except Exception as error:  # a user's network may raise anything
            raise ArmFailedError(f"arm {job.arm!r}: {error}; nothing was run") from error


class Pool:
    """Worker processes that train; they start with the first run, are given the data once, and die with their parent.

    Args:
        data: what every run trains on.
        workers: how many processes; one a core that this process may use by default.
        train: the training function; must be importable by a new process.
        options: keyword arguments for it, beyond recipe, data, arm, progress and probe (``accelerator``, ...).
        watcher: what is told of the progress.

    Raises:
        ValueError: fewer than one worker.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        workers: int | None = None,
        train: Train | None = None,
        options: dict[str, Any] | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.size = cores() if workers is None else workers
        if self.size < 1:
            raise ValueError(f"a study needs at least one worker, got workers={workers}")
        self.data = data
        self.described = described(data)
        self.watcher: Watcher = watcher or Silent()
        self._train, self._options = train, options or {}
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def use(self, data: Dataset) -> None:
        """Go on with other data: the workers are given it, and need not start anew."""
        self.data, self.described = data, described(data)
        for worker in self._workers:
            with suppress(OSError):  # dead: the next receive says so
                worker.pipe.send_bytes(self._package())

    def run(self, title: str, jobs: Sequence[Job]) -> list[Run]:
        """Make the runs that are not there yet, and return all of them in the order of the jobs.

        Raises:
            StudyError: a run could not be stored (a full disk), or workers do not start; ``ArmFailedError`` where
                an arm's network cannot be built, which is told before any run.
        """
        self.watcher.stage(title, jobs)
        found: dict[int, Run] = {}
        for index, job in enumerate(jobs):
            run, reason = kept(job, self.described)
            if run is not None:
                found[index] = run
                self.watcher.end(job, run, True)
            elif reason:
                self.watcher.say(reason)
        todo = deque((index, 1) for index in range(len(jobs)) if index not in found)
        if self._train is None:
            preflight([jobs[index] for index, _ in todo], self.data)
        while len(self._workers) < min(self.size, len(todo)):
            self._workers.append(self._start())
        left = len(todo)
        while left:
            for worker in self._workers:
                if worker.ready and worker.task is None and todo:
                    worker.give(todo.popleft(), jobs)
            for pipe in connection.wait([worker.pipe for worker in self._workers]):
                worker = next(worker for worker in self._workers if worker.pipe is pipe)
                message = worker.receive()
                match message:
                    case ("ready",):
                        worker.ready = True
                    case ("step", int(done)) if worker.task:
                        self.watcher.step(jobs[worker.task[0]], done)
                    case ("stored",) if worker.task:
                        index, worker.task = worker.task[0], None
                        found[index] = Run.load(jobs[index].path)
                        self.watcher.end(jobs[index], found[index], False)
                        left -= 1
                    case ("full", str(text)):
                        raise StudyError(text)
                    case None:
                        task, reason = self._replace(worker)
                        if task is None:
                            continue
                        index, attempt = task
                        if attempt < _ATTEMPTS:
                            self.watcher.say(f"{jobs[index].path.name}: {reason} It is tried again.")
                            todo.appendleft((index, attempt + 1))
                            continue
                        found[index] = failed(jobs[index], self.described, reason)
                        save(found[index], jobs[index].path)
                        self.watcher.end(jobs[index], found[index], False)
                        left -= 1
        return [found[index] for index in range(len(jobs))]

    def _start(self) -> _Worker:
        context = get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there,), name="levelhead-worker", daemon=True)
        process.start()
        there.close()
        with suppress(OSError):  # dead already: its end of the pipe says so to the loop
            here.send_bytes(self._package())
        return _Worker(process, here)

    def _package(self) -> bytes:
        return pickle.dumps((self.data, self.described, self._train, self._options))

    def _replace(self, worker: _Worker) -> tuple[tuple[int, int] | None, str]:
        """Put a new process where one died; give back what it was at and why it ended."""
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode
        self._workers.remove(worker)
        if not worker.ready:
            raise StudyError(
                f"a worker process ended as it started (exit status {code}). In a script of your own, put what starts "
                "the study under: if __name__ == '__main__':"
            )
        self._workers.append(self._start())
        return worker.task, f"its worker process was killed (exit status {code}); out of memory?"


class _Worker:
    """The parent's end of one process."""

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.ready = False
        self.task: tuple[int, int] | None = None

    def give(self, task: tuple[int, int], jobs: Sequence[Job]) -> None:
        self.task = task
        with suppress(OSError):  # dead: the next receive says so
            self.pipe.send_bytes(pickle.dumps(jobs[task[0]]))

    def receive(self) -> tuple[Any, ...] | None:
        """The next message; None where the process is dead."""
        try:
            message: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return message


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(pipe: Connection) -> None:
    """A worker's life: the data, then one job after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends the workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings(action="ignore"):  # where there is nothing to tune, the study runs all the same
        tune_allocator()
    package = pickle.loads(pipe.recv_bytes())
    pipe.send(("ready",))
    while True:
        job = pickle.loads(pipe.recv_bytes())
        if not isinstance(job, Job):  # other data
            package = job
            continue
        data, description, given, options = package
        train = given or _default_train()
        try:
            run = _one(job, data, train, options, pipe)
        except Exception as error:  # whatever a user's network raises is that run's result
            text = str(error).strip().splitlines()
            run = failed(job, description, f"{type(error).__name__}: {text[0] if text else 'no message'}")
        run = dataclasses.replace(run, data=description)
        try:
            save(run, job.path)
        except StudyError as error:
            pipe.send(("full", str(error)))
        else:
            pipe.send(("stored",))


def _one(job: Job, data: Dataset, train: Train, options: dict[str, Any], pipe: Connection) -> Run:
    last = 0.0

    def report(done: int, _: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY:
            last = now
            pipe.send(("step", done))

    make = job.experiment or train
    return make(job.recipe, data, arm=job.arm, progress=report, probe=job.probe, **options)


def _default_train() -> Train:
    from levelhead.training import train

    return train


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
