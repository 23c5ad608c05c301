"""What a remedy is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        """Change a copy of the program."""
        self.change(program)


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
