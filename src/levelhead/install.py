"""How what is missing is installed: beside a wheel, or in a checkout."""

from __future__ import annotations

import shlex
from pathlib import Path


def hint(extra: str) -> str:
    """The command that installs an extra; in a checkout, with the versions that it is tested with."""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file() and (root / "src" / "levelhead").is_dir():
        return f"cd {shlex.quote(str(root))} && pip install -c constraints.txt -e '.[{extra}]'"
    return f"pip install 'levelhead[{extra}]'"
