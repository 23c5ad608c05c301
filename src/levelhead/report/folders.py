"""Which page a folder's records make: a study's, a study of claims', or that of all of these."""

from __future__ import annotations

from pathlib import Path

from levelhead.lessons import Lesson
from levelhead.records import read_json, write_text
from levelhead.report.claims import markdown, render_claims
from levelhead.report.page import write_answer

#: Names the studies of a folder that holds several, in order.
INDEX = "all.json"


def write(folder: Path) -> Path:
    """Make ``report.html`` from the records of a folder; it asks nothing of any network.

    Of claims, their verdicts are written to ``verdicts.md`` too, as a table of Markdown.

    Args:
        folder: holds ``all.json`` (several studies of claims), ``lesson.json`` (one) or ``answer.json`` (a study).

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: the records, or a file that they name, are missing; the message names it.
        ValueError: one of them cannot be read; the message names it and says what is wrong.
        ModuleNotFoundError: jinja2 or plotly is missing; the message says how to install them.
    """
    if (folder / INDEX).is_file():
        lessons = {name: Lesson.load(_there(folder / name / "lesson.json")) for name in _names(folder / INDEX)}
    elif (folder / "lesson.json").is_file() and not (folder / "answer.json").is_file():
        lessons = {"": Lesson.load(folder / "lesson.json")}
    else:
        return write_answer(folder)
    page = folder / "report.html"
    write_text(page, render_claims(lessons))
    write_text(folder / "verdicts.md", markdown(list(lessons.values())))
    return page


def _names(index: Path) -> list[str]:
    names = read_json(index).get("studies")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{index} does not name the studies; run 'levelhead study --all' again")
    return names


def _there(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though the folder names it; run 'levelhead study --all' again")
    return path
