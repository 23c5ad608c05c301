"""Runs a script again and again, each time in a scratch copy of its working directory and with one change."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, cast

import torch

from levelhead.doctor.evidence import Unchanged
from levelhead.doctor.program import ProgramError
from levelhead.doctor.remedies import Remedy
from levelhead.doctor.remedies.outside import Outside
from levelhead.doctor.script.child import Order, main
from levelhead.doctor.script.measure import Ran
from levelhead.doctor.script.run import Script
from levelhead.doctor.trials import waited

#: Larger files and folders, in bytes, are linked and not copied; writing through a link is refused.
COPIED = 50_000_000
#: What no script needs a copy of.
LEFT = {".git", ".venv", "venv", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


class Runs:
    """The runs of one script; finished ones are kept until all is done, so that a stopped examination goes on.

    Left as a context, whatever still runs is ended.

    Args:
        script: what to run.
        deadline: seconds, by ``clock``, after which whatever still runs is ended.
    """

    def __init__(self, script: Script, deadline: float) -> None:
        self.script, self.deadline = script, deadline
        self.path, _ = script.found()
        self.jobs = max(1, min(4, (os.cpu_count() or 2)))
        self.kept = _cache() / _fingerprint(script, self.path)
        self._pool = ThreadPoolExecutor(self.jobs)
        self._begun: dict[str, Future[Ran]] = {}
        self._alive: list[Any] = []
        self._waited: dict[int, float] = {}
        self._started = time.perf_counter()
        fork = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if fork else "spawn")
        if fork:  # PyTorch and what else is installed are imported once, not once a run
            self._context.set_forkserver_preload(["levelhead.doctor.script.child", *_installed(self.path)])
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._over = True
            for process in self._alive:
                _end(process)

    def clock(self) -> float:
        """Seconds since these runs are made; it stands while other processes keep them from a processor, on Linux."""
        return time.perf_counter() - self._started - sum(self._waited.values()) / self.jobs

    def begin(self, changes: Sequence[Remedy], seed: int, steps: int, seconds: float = 0.0) -> Future[Ran]:
        """A run with these changes, begun as soon as there is a processor; from the file where it has been made."""
        words = [change.words for change in changes]
        key = hashlib.sha256(f"{words} {seed} {steps} {seconds}".encode()).hexdigest()[:16]
        if key not in self._begun or self._begun[key].cancelled():
            outside = [change.outside for change in changes if change.outside is not None]
            self._begun[key] = self._pool.submit(self._one, key, outside, seed, steps, seconds)
        return self._begun[key]

    def _one(self, key: str, changes: list[Outside], seed: int, steps: int, seconds: float) -> Ran:
        out = self.kept / f"{key}.pickle"
        if not out.exists():
            self.kept.mkdir(parents=True, exist_ok=True)
            threads = max(1, (os.cpu_count() or 1) // self.jobs)
            with _scratch(self.path, self.script.module) as (folder, what):
                script = self.script if self.script.module else replace(self.script, what=what)
                said = self._run(
                    Order(script, changes, seed, steps, seconds, str(folder), str(out), threads), str(folder.parent)
                )
            if not out.exists():
                return Ran(0, [], [], [], said or "it ended without a word", [], Unchanged(), [])
        return cast(Ran, pickle.loads(out.read_bytes()))

    def forget(self) -> None:
        """All is done: nothing need be kept."""
        self._begun.clear()
        shutil.rmtree(self.kept, ignore_errors=True)

    def _run(self, order: Order, temporary: str) -> str:
        said = Path(temporary) / "said.txt"
        process = self._context.Process(target=main, args=(order, str(said)))
        with self._lock:
            if self._over:
                return "it was not begun"
            process.start()
            self._alive.append(process)
        while process.is_alive() and self.clock() < self.deadline:
            process.join(0.1)
            self._waited[id(process)] = max(self._waited.get(id(process), 0.0), waited(process.pid))
        late = process.is_alive()
        with self._lock:
            _end(process)
            self._alive.remove(process)
        lines = said.read_text(errors="replace").split("\n") if said.exists() else []
        lines = [line for line in lines if line.strip()]
        return f"it was ended after {self.deadline:.0f} s, twice the budget" if late else lines[-1] if lines else ""


def _end(process: Any) -> None:
    """A run and the workers that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg") and process.pid != os.getpgid(0):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _installed(path: Path) -> list[str]:
    """The installed modules that a script imports; its own are imported by itself."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):
        return []
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    found = {name: importlib.util.find_spec(name.partition(".")[0]) for name in sorted(names)}
    return [name for name, spec in found.items() if spec is not None and "site-packages" in (spec.origin or "")]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "levelhead" / "scripts"


def _fingerprint(script: Script, path: Path) -> str:
    """Of the script, its arguments, the Python files beside it, and the versions."""
    digest = hashlib.sha256(f"{script} {Path.cwd()} {torch.__version__} {version('levelhead')}".encode())
    for file in sorted({path, *_python_files(path.parent)}):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:24]


def _python_files(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT and not name.startswith(".")]
        yield from (Path(where) / name for name in files if name.endswith(".py"))


@contextlib.contextmanager
def _scratch(path: Path, module: bool) -> Iterator[tuple[Path, str]]:
    """A copy of the working directory, and the script in it; of a script elsewhere, the script where it is.

    Raises:
        ProgramError: the working directory cannot be copied.
    """
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="levelhead-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "work"
        folder.mkdir()
        try:
            for entry in here.iterdir():
                if entry.name in LEFT:
                    continue
                if _size(entry) > COPIED:
                    (folder / entry.name).symlink_to(entry)
                elif entry.is_dir():
                    shutil.copytree(entry, folder / entry.name, symlinks=True, ignore=shutil.ignore_patterns(*LEFT))
                elif entry.is_file():
                    shutil.copy2(entry, folder / entry.name)
        except (OSError, shutil.Error) as error:
            raise ProgramError(f"the working directory could not be copied ({error}); run in a smaller one") from error
        inside = path.is_relative_to(here) and not module
        yield folder, str(path.relative_to(here)) if inside else str(path)


def _size(entry: Path) -> int:
    if entry.is_symlink() or not entry.is_dir():
        return entry.stat().st_size if entry.exists() else 0
    total = 0
    for where, folders, files in os.walk(entry):
        folders[:] = [name for name in folders if name not in LEFT]
        total += sum((Path(where) / name).lstat().st_size for name in files)
        if total > COPIED:
            break
    return total
