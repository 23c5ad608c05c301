"""Runs by actors of a Ray cluster, of one CPU each: the same jobs, messages and files as those of local processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from levelhead.records import Run
from levelhead.studies.jobs import Job, StudyError
from levelhead.studies.workers import Package, Worker, settle


class Actors:
    """Workers in a Ray cluster, whose nodes have levelhead and the user's own modules installed.

    Args:
        address: HOST:PORT of the cluster, or ``ray://HOST:PORT`` from outside of it; None takes the one that
            ``RAY_ADDRESS`` names or that runs here, and else starts one that ends with this process.

    Raises:
        StudyError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise StudyError('the engine "ray" needs Ray: pip install "levelhead[ray]"') from error
        self._ray: Any = ray
        self._owns = not ray.is_initialized()
        try:
            if self._owns:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            where = f"at {address}" if address else "here"
            text = str(error).strip().splitlines()
            raise StudyError(
                f"no Ray cluster {where} ({text[0] if text else type(error).__name__}); start one by: ray start --head"
            ) from error
        self._package: Any = None
        self._saying: dict[Any, _Actor] = {}  # by what Ray will have ready

    def cpus(self) -> int:
        """How many CPUs the cluster has, and so how many actors."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def start(self, package: Package) -> Worker:
        """As ``workers.Crew`` says; so all that follow."""
        if self._package is None:
            self._package = self._ray.put(package)
        handle = self._ray.remote(_Maker).options(num_cpus=1, max_restarts=0).remote()
        worker = _Actor(handle)
        self._saying[handle.use.remote(self._package)] = worker
        return worker

    def use(self, package: Package) -> None:
        """As there: the next job brings the new package."""
        self._package = self._ray.put(package)

    def give(self, worker: Worker, jobs: Sequence[Job]) -> None:
        """As there, without ``step``."""
        assert isinstance(worker, _Actor)
        self._saying[worker.handle.make.remote(self._package, list(jobs))] = worker

    def wait(self) -> list[tuple[Worker, tuple[Any, ...]]]:
        """As there."""
        ready, _ = self._ray.wait(list(self._saying), num_returns=1)
        found: list[tuple[Worker, tuple[Any, ...]]] = []
        for reference in ready:
            worker = self._saying.pop(reference)
            try:
                runs = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._ray.kill(worker.handle)
                lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
                raised = isinstance(error, self._ray.exceptions.RayTaskError)  # its text is a traceback
                found.append((worker, ("dead", f"({lines[-1 if raised else 0]})")))
            else:
                found.append((worker, ("ready",) if runs is None else ("made", runs)))
        return found

    def close(self) -> None:
        """As there."""
        for worker in self._saying.values():
            self._ray.kill(worker.handle)
        self._saying.clear()
        if self._owns:
            self._ray.shutdown()


class _Actor(Worker):
    """The driver's end of one actor."""

    def __init__(self, handle: Any) -> None:
        super().__init__()
        self.handle = handle


class _Maker:
    """What an actor is: it makes runs, and keeps nothing."""

    def __init__(self) -> None:
        settle()

    def use(self, package: Package) -> None:
        """Say that it has begun."""

    def make(self, package: Package, jobs: Sequence[Job]) -> list[Run]:
        """The runs of jobs that differ in their seeds alone."""
        return package.make(jobs, lambda done, of: None)
