"""How long each room of the package is, against its budget; fails over one.

Run: make lines
"""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "levelhead"
#: A room is files and folders of the package. A budget is raised only with a reason in the changelog.
BUDGETS = {
    "moments.py covariance.py records.py lessons.py allocator.py": 900,
    "ops": 5400,
    "nn": 3300,
    "init regularizers weights.py": 2100,
    "doctor": 6000,
    "data training": 3200,
    "studies": 3600,
    "report cli.py integrations": 2100,
}


def lines(room: str) -> int:
    files = subprocess.run(["git", "ls-files", *room.split()], cwd=PACKAGE, capture_output=True, text=True, check=True)
    sources = [name for name in files.stdout.split() if name.endswith((".py", ".h", ".cpp", "CMakeLists.txt"))]
    return sum(len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in sources)


def main() -> None:
    over = []
    for room, budget in BUDGETS.items():
        found = lines(room)
        over += [room] if found > budget else []
        print(f"{room:60} {found:6,} of {budget:6,}{'   over' if found > budget else ''}")
    print(f"{'together':60} {sum(map(lines, BUDGETS)):6,} of {sum(BUDGETS.values()):6,}")
    if over:
        raise SystemExit(f"over the budget: {', '.join(over)}")


if __name__ == "__main__":
    main()
