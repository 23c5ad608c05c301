"""The benchmarks, for whoever has levelhead: they come with the package, and in a checkout lie in ``benchmarks/``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: By name: the options for a short run, and whether torch.compile can be a contender.
BENCHMARKS: dict[str, tuple[list[str], bool]] = {
    "norms": (["--quick"], True),
    "dropout": (["--turns", "3"], True),
    "models": (["--repeats", "3"], False),
    "memory": (["--quick"], False),
}


def run(name: str = "norms", quick: bool = False, compiled: bool = False) -> int:
    """Run one benchmark in a process of its own, for its allocator and threads; returns its exit status.

    Raises:
        ValueError: an unknown name, or ``compiled`` where torch.compile is no contender.
        FileNotFoundError: the package came without its benchmarks.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}")
    short, compiles = BENCHMARKS[name]
    if compiled and not compiles:
        raise ValueError(f"benchmark {name!r} does not time torch.compile; leave out --compile, or choose norms")
    options = [*(short if quick else []), *(["--compile"] if compiled else [])]
    return subprocess.run([sys.executable, str(script(name)), *options], check=False).returncode


def script(name: str) -> Path:
    """Where a benchmark lies: within the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "benchmarks", package.parent.parent / "benchmarks"):
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    raise FileNotFoundError(f"this installation has no benchmarks: {name}.py is neither in {package} nor beside src/")
