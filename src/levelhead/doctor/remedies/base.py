"""What a remedy is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from levelhead.doctor.isolation import Change
from levelhead.doctor.program import Program, ProgramError
from levelhead.doctor.remedies.outside import Outside, Running


def _only_outside(_: Program) -> None:
    raise ProgramError("this is done to scripts alone")


@dataclass(frozen=True)
class Remedy:
    """A change of a training.

    Args:
        words: what it does, in a few words.
        patch: the same as code, for the user to copy.
        change: does it to a copy of a program.
        outside: does it to a script that runs, where that is possible.
    """

    words: str
    patch: str
    change: Change = _only_outside
    outside: Outside | None = None

    def __reduce__(self) -> Any:
        """To another process goes what is done to a script."""
        return Remedy, (self.words, self.patch, _only_outside, self.outside)

    def __call__(self, program: Program) -> None:
        """Change a copy of the program; one that is built anew later is changed likewise."""
        self.change(program)
        if program.rebuild is not None:
            program.rebuild = _Changed(program.rebuild, self.change)


@dataclass(frozen=True)
class _Changed:
    """A function that builds a program, and changes what it has built."""

    build: Callable[[], Any]
    change: Change

    def __call__(self) -> Program:
        program = Program.of(self.build())
        self.change(program)
        return program


def several(remedies: Sequence[Remedy]) -> Change:
    """All of them, in order."""

    def change(program: Program) -> None:
        for remedy in remedies:
            remedy(program)

    return change


def together(remedies: Sequence[Remedy]) -> Remedy:
    """Several remedies as one."""
    if len(remedies) == 1:
        return remedies[0]
    words, patch = " and ".join(r.words for r in remedies), "\n".join(r.patch for r in remedies)
    outside = [r.outside for r in remedies if r.outside is not None]
    both = functools.partial(_all, outside) if len(outside) == len(remedies) else None
    return Remedy(words, patch, several(remedies), both)


def _all(outside: Sequence[Outside], run: Running) -> None:
    for change in outside:
        change(run)
