"""The doctor: probes measure a training program, rules judge, treatments mend.

Imported when first used, name by name: ``findings`` and ``causes`` are plain data and need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levelhead.doctor.examination import examine
    from levelhead.doctor.findings import Examination, Finding, Treated
    from levelhead.doctor.program import Program, ProgramError
    from levelhead.doctor.watching import watch

__all__ = ["Examination", "Finding", "Program", "ProgramError", "Treated", "examine", "watch"]

_HOME = {"Examination": "findings", "Finding": "findings", "Treated": "findings"}
_HOME |= {"Program": "program", "ProgramError": "program", "examine": "examination"}
_HOME |= {"watch": "watching"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'levelhead.doctor' has no attribute {name!r}")
    return getattr(import_module(f"levelhead.doctor.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
