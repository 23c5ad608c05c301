"""What a remedy is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from levelhead.doctor.isolation import Change
from levelhead.doctor.program import Program


@dataclass(frozen=True)
class Remedy:
    """A change of a program.

    Args:
        words: what it does, in a few words.
        patch: the same as code, for the user to copy.
        change: does it to a copy.
    """

    words: str
    patch: str
    change: Change

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
    words, patch = " and ".join(r.words for r in remedies), "\n".join(r.patch for r in remedies)
    return remedies[0] if len(remedies) == 1 else Remedy(words, patch, several(remedies))
