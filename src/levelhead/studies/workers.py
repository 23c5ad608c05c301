"""What makes the runs of a study: processes of this machine, each with one thread."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from levelhead import references
from levelhead.allocator import tune_allocator
from levelhead.records import Run
from levelhead.studies.jobs import Job, failed

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from levelhead.data import Dataset

#: ``levelhead.training.train``, or one of the same signature.
Train = Callable[..., Run]
ENGINES = ("local", "ray")
#: Seconds between two reports of one worker's progress.
_REPORT_EVERY = 0.1


@dataclass(frozen=True)
class Package:
    """What every worker is given once.

    Args:
        data: what the runs train on.
        described: as ``jobs.described`` gives it.
        train: the training function; None for the library's own.
        options: its keyword arguments beside those of ``make``.
    """

    data: Dataset
    described: dict[str, Any]
    train: Train | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def asked(self, job: Job) -> dict[str, str]:
        """What a run is asked for beside recipe and data: a training function of the user's own counts, too."""
        if self.train is None:
            return job.asked
        options = f", options {self.options}" if self.options else ""
        return job.asked | {"train": references.described(self.train) + options}

    def make(self, jobs: Sequence[Job], report: Callable[[int, int], None]) -> list[Run]:
        """The runs of jobs that differ in their seeds alone; whatever one raises is that run's result."""
        first = jobs[0]
        options = dict(self.options, arm=first.arm, progress=report, probe=first.probe)
        if first.experiment.observe is not None:
            options["observe"] = first.experiment.observe
        try:
            data = [job.experiment.seen(self.data, job.recipe.seed) for job in jobs]
            if self.train is None:
                from levelhead.training import train_seeds

                runs = train_seeds([job.recipe for job in jobs], data, **options)
            else:
                runs = [self.train(job.recipe, one, **options) for job, one in zip(jobs, data, strict=True)]
        except Exception as error:  # a user's network may raise anything
            if len(jobs) > 1:
                return [run for job in jobs for run in self.make([job], report)]
            text = str(error).strip().splitlines()
            return [failed(first, self.described, f"{type(error).__name__}: {text[0] if text else 'no message'}")]
        return [dataclasses.replace(run, data=self.described) for run in runs]


class Worker:
    """One that makes runs, as the pool sees it.

    ``ready`` once it has begun; ``task`` is what it was given last and has not brought back.
    """

    def __init__(self) -> None:
        self.ready = False
        self.task: Any = None


class Crew(Protocol):
    """Workers of one kind; ``Processes`` and ``cluster.Actors`` are the two."""

    def start(self, package: Package) -> Worker:
        """One more worker, which says ``("ready",)``."""

    def use(self, package: Package) -> None:
        """Have all go on with another package."""

    def give(self, worker: Worker, jobs: Sequence[Job]) -> None:
        """Let a worker make runs: it says ``("step", done)`` now and then, and at the end ``("made", runs)``."""

    def wait(self) -> list[tuple[Worker, tuple[Any, ...]]]:
        """What workers say next; ``("dead", why)`` of one that is no more, and is taken off."""

    def close(self) -> None:
        """End all, whatever they are at."""


class Processes:
    """Worker processes of this machine; they die with their parent."""

    def __init__(self) -> None:
        self._workers: list[_Process] = []

    def start(self, package: Package) -> Worker:
        """As ``Crew`` says; so all that follow."""
        context = get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there,), name="levelhead-worker", daemon=True)
        process.start()
        there.close()
        worker = _Process(process, here)
        worker.send(package)
        self._workers.append(worker)
        return worker

    def use(self, package: Package) -> None:
        """As there."""
        for worker in self._workers:
            worker.send(package)

    def give(self, worker: Worker, jobs: Sequence[Job]) -> None:
        """As there."""
        assert isinstance(worker, _Process)
        worker.send(list(jobs))

    def wait(self) -> list[tuple[Worker, tuple[Any, ...]]]:
        """As there."""
        ready = connection.wait([worker.pipe for worker in self._workers])
        return [(worker, self._receive(worker)) for worker in list(self._workers) if worker.pipe in ready]

    def close(self) -> None:
        """As there."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _receive(self, worker: _Process) -> tuple[Any, ...]:
        try:
            message: tuple[Any, ...] = worker.pipe.recv()
        except (EOFError, OSError):
            worker.end()
            self._workers.remove(worker)
            return ("dead", f"(exit status {worker.process.exitcode})")
        return message


class _Process(Worker):
    """The parent's end of one process."""

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        super().__init__()
        self.process, self.pipe = process, pipe

    def send(self, what: object) -> None:
        with suppress(OSError):  # dead: the next receive says so
            self.pipe.send_bytes(pickle.dumps(what))

    def end(self) -> None:
        self.process.join()
        self.pipe.close()


def check_engine(engine: str, address: str | None) -> None:
    """Raise ValueError where there is no such engine, or it has no address."""
    if engine not in ENGINES:
        raise ValueError(f"engine = {engine!r} is not one of {', '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise ValueError(f"address = {address!r} is of a Ray cluster, and the engine is {engine!r}; use engine 'ray'")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle() -> None:
    """Make this process a worker: one thread, and memory that is kept."""
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings(action="ignore"):  # where there is nothing to tune, the study runs all the same
        tune_allocator()


def _work(pipe: Connection) -> None:
    """A worker's life: the data, then one group of jobs after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends the workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    settle()
    package: Package = pickle.loads(pipe.recv_bytes())
    pipe.send(("ready",))
    last = 0.0

    def report(done: int, _: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY:
            last = now
            pipe.send(("step", done))

    while True:
        given = pickle.loads(pipe.recv_bytes())
        if isinstance(given, Package):
            package = given
        else:
            pipe.send(("made", package.make(given, report)))


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
