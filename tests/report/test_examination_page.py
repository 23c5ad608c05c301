"""The page of an examination: what it says, what it escapes, and how it looks in a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_examination import make_examination, make_treated
from test_browser import CHROMIUM, SHOTS, Tab, browser  # noqa: F401  (a fixture)
from test_page import EVIL, Reader, spec

from levelhead.doctor.findings import Examination
from levelhead.records import Chart, Line
from levelhead.report import render_examination


@pytest.fixture(scope="module")
def page() -> str:
    return render_examination(make_examination(), make_treated(), "train.py:build")


def said(page: str) -> str:
    return " ".join(Reader(page).text.split())


def test_the_page_says_what_was_found_and_how_it_is_mended(page: str) -> None:
    words = said(page)
    examination = make_examination()
    assert "Something breaks this training Most probable cause: the inputs' scale" in words
    assert "(inputs-not-normalized, at data). 1 more finding below." in words
    for finding in examination.findings:
        assert f"{finding.cause} {finding.code} · at {finding.where}" in words
        assert finding.threshold in words
        assert finding.remedy in words
        assert " ".join(finding.patch.split()) in words
    assert "mean33.32" in words
    assert "0.1 and 2 more" in words
    assert "97 % of the values of net.1" in words
    assert "Mended The program was trained anew" in words
    assert "0.93 (0.92 to 0.94, 3 seeds)" in words
    assert examination.notes[0] in words
    assert "levelhead examine train.py:build --treat --html report.html" in words


def test_trials_are_a_row_each(page: str) -> None:
    rows = [row for row in Reader(page).rows if row and row[0].startswith(("as it is", "inputs", "ten times"))][-3:]
    assert rows[0] == ["as it is", "0.412", "", "1.8", "480", "1.2 s", "as planned"]
    assert rows[1] == [
        "inputs standardized inputs-not-normalized",
        "0.934",
        "+58 %",
        "0.21",
        "480",
        "1.3 s",
        "as planned",
    ]
    assert rows[2][1:4] == ["–", "", "–"]
    assert rows[2][-1] == "diverged"


def test_a_line_ends_where_its_values_do(page: str) -> None:
    plots = {plot["id"]: plot for plot in spec(page)}
    lost = next(t for t in plots["chart-1-plot"]["traces"] if t.get("name") == "ten times the rate")
    assert len(lost["x"]) == 40
    assert "no longer finite" in said(page)
    crosses = [t for t in plots["chart-3-plot"]["traces"] if t.get("yaxis") == "y2"]
    assert [t["x"] for t in crosses] == [[1.0]]


def test_healthy_and_empty_examinations_have_pages() -> None:
    words = said(render_examination(Examination(())))
    assert "Nothing found that costs" in words
    assert "This command makes it again" not in words
    remark = make_examination().findings[2]
    assert "1 remark on style" in said(render_examination(Examination((remark,))))


def test_not_mended_is_said() -> None:
    treated = replace(make_treated(), accepted=False, note="the gain is within the noise")
    words = said(render_examination(make_examination(), treated))
    assert "Not mended" in words
    assert "The gain is within the noise" in words


def hostile() -> str:
    """An examination in which every text is an attack."""
    finding = replace(
        make_examination().findings[0],
        where=EVIL, summary=EVIL, evidence={EVIL: EVIL}, threshold=EVIL, symptoms=(EVIL,), remedy=EVIL, patch=EVIL,
    )  # fmt: skip
    chart = Chart(EVIL, EVIL, EVIL, (Line(EVIL, (0.0, 1.0), (1.0, 2.0)),), note=EVIL)
    trial = replace(make_examination().trials[0], change=EVIL, cause=EVIL, note=EVIL)
    treated = replace(make_treated(), remedies=(EVIL,), patch=EVIL, note=EVIL, trials=(trial,))
    environment = {"command": EVIL, "machine": {EVIL: EVIL}, "versions": {EVIL: EVIL}, "started": EVIL}
    return render_examination(Examination((finding,), (), (trial,), (chart,), {}, (EVIL,), environment), treated, EVIL)


def test_everything_is_escaped() -> None:
    reader = Reader(hostile())
    assert reader.scripts == 3
    assert reader.outside == []
    assert reader.text.count(EVIL) > 15


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("wide", {"viewport": {"width": 1280, "height": 900}}),
        ("phone-dark", {"viewport": {"width": 380, "height": 800}, "color_scheme": "dark", "is_mobile": True}),
    ],
)
def test_the_page_in_a_browser(browser: Any, page: str, tmp_path: Path, name: str, context: dict[str, Any]) -> None:  # noqa: F811
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    tab = Tab(browser, file, **context)
    SHOTS.mkdir(exist_ok=True)
    tab.page.screenshot(path=SHOTS / f"examination-{name}.png", full_page=True)
    plots = tab.drawn()
    assert set(plots) == {"treatment-plot", "chart-1-plot", "chart-2-plot", "chart-3-plot"}
    for plot in plots.values():
        assert min(plot["traces"]) > 0, plot["id"]
        assert not plot["bad"], plot["id"]
        assert 250 < plot["width"] <= context["viewport"]["width"], plot["id"]
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= context["viewport"]["width"]
    tab.page.get_by_role("button", name="Copy the patch for inputs-not-normalized").click()
    tab.page.locator("button[data-copy=finding-1-patch]", has_text="Copied").wait_for()
    assert tab.page.evaluate("navigator.clipboard.readText()") == make_examination().findings[0].patch
    assert tab.trouble == []
    tab.context.close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_an_attack_in_an_examination_is_not_run(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "report.html").write_text(hostile(), encoding="utf-8")
    tab = Tab(browser, tmp_path / "report.html", viewport={"width": 380, "height": 800})
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 380
    assert tab.trouble == []
    tab.context.close()
