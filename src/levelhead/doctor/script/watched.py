"""``levelhead watch train.py``: the script as it is, and what was seen of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from levelhead.doctor.findings import Examination, Finding
from levelhead.doctor.script.run import Script
from levelhead.doctor.script.sight import Sight


def watch_script(script: Script, every: int = 16) -> tuple[int, list[Examination]]:
    """Run a script in this process, and watch all that it trains.

    Args:
        script: what to run.
        every: measure every so many steps.

    Returns:
        Its exit status, and an examination of each module that it trained.

    Raises:
        ProgramError: there is no such script, or it cannot be read as Python.
    """
    path, _ = script.found()
    sight = Sight(path.parent, _tell, every)
    try:
        with sight:
            status = script.run()
    except KeyboardInterrupt:
        status = 130
    return status, seen(sight)


def seen(sight: Sight) -> list[Examination]:
    """An examination of each module that was trained, without what another one has said already."""
    for each in sight.watches[:1]:
        each.script = sight.seen()
    told: set[tuple[str, str]] = set()
    examinations = []
    for each in sight.watches:
        if not each.history.steps:
            continue
        found = each.examination()
        new = [f for f in found.findings if (f.cause, f.where) not in told]
        told |= {(f.cause, f.where) for f in new}
        notes = (f"of {type(each.model).__name__}", *found.notes) if len(sight.watches) > 1 else found.notes
        examinations.append(replace(found, findings=tuple(new), notes=notes))
    return examinations


def report(examinations: Sequence[Examination]) -> str:
    """What was seen, in words."""
    if not examinations:
        return (
            "no step of an optimizer was seen in this process: the script trains nothing, trains in another process, "
            "or steps by hand"
        )
    return "\n\n".join(map(str, examinations))


def _tell(finding: Finding) -> None:
    if finding.severity != "info":
        sys.stdout.flush()
        print(f"levelhead: {finding.code} {finding.cause} at {finding.where}: {finding.summary}", file=sys.stderr)
