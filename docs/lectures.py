"""The verdicts in docs/lectures.md and the figures of the main study in README.md, from one run of all studies.

Run: levelhead study --all && python docs/lectures.py reports/all
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from levelhead import lessons
from levelhead.lessons import Answer
from levelhead.records import read_json

ROOT = Path(__file__).resolve().parent.parent


def parts(folder: Path) -> dict[str, str]:
    """What stands between the marks, by the mark's name."""
    answers = [Answer.load(folder / name / "answer.json") for name in read_json(folder / "all.json")["studies"]]
    claims = [verdict for answer in answers for verdict in answer.claims]
    return {
        "verdicts": lessons.markdown_of_claims(answers),
        "count": f"{lessons.count(claims)}\n",
        "main study": "".join(lessons.markdown(answer) for answer in answers if answer.rows),
    }


def filled(page: str, found: Mapping[str, str]) -> str:
    """The page with each part between its marks, ``<!-- name -->`` and ``<!-- end of name -->``, put anew."""
    for name, text in found.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        page = marked.sub(lambda marks, text=text: f"{marks[1]}{text}{marks[2]}", page)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of levelhead study --all")
    found = parts(parser.parse_args().folder)
    for page in (ROOT / "README.md", ROOT / "docs" / "lectures.md"):
        page.write_text(filled(page.read_text(encoding="utf-8"), found), encoding="utf-8")
        print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
