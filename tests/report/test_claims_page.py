"""The page of claims: what it says, that it escapes, and that a browser draws its plots when they are opened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_browser import CHROMIUM, SHOTS, Tab, browser  # noqa: F401 - a fixture
from test_page import EVIL, Reader

from levelhead.lessons import Answer, Contours, Panel, Verdict, figure, markdown_of_claims, rule
from levelhead.records import Chart, Interval, Line, environment
from levelhead.report import render, write
from levelhead.report.page import _gauge, _scale

NAN, INF = float("nan"), float("inf")
CLAIM = Verdict(
    "It helps.", "lecture 1", "gain", "times", (2.0, 2.5), Interval(2.2, 1.5, 3.0), "above", 1.0, "supported",
    delta=1.1, p=0.001, level=0.01, look=1,
)  # fmt: skip
CLAIMS = (
    CLAIM,
    replace(CLAIM, claim="It hurts.", side="below", ruling="contradicted"),
    replace(CLAIM, claim="Who knows?", effects=(NAN,), interval=Interval(NAN, NAN, NAN), ruling="not decided"),
)


def make_answer(name: str, **changes: Any) -> Answer:
    curve = Line("plain", (0, 10, 20), (10, 60, 90), (5, 50, 85), (15, 70, 95))
    charts = (
        Chart("Training", "steps", "accuracy, %", (curve, replace(curve, name="BN")), band=True, note="Medians."),
        Chart(
            "By arm", "", "accuracy, %", (Line("validation", (0, 1), (70, 80), (60, 75), (80, 85)),), ticks=("a", "b")
        ),
    )
    bowl = tuple(tuple(float(x * x + 4 * y * y) for x in range(-3, 4)) for y in range(-3, 4))
    grid = tuple(map(float, range(-3, 4)))
    surface = Contours(
        "The loss", "one way", "the other", (Panel("raw", grid, grid, bowl), Panel("white", grid, grid, bowl))
    )
    fields = {
        "study": name,
        "question": f"Does {name} help?",
        "setting": "A toy.",
        "verdicts": CLAIMS,
        "rows": (),
        "charts": charts,
        "contours": (surface,),
        "arms": {"plain": {}, "BN": {"normalization": "batch"}},
        "recipe": {"depth": 3},
        "data": {"name": "digits", "notes": ["split"]},
        "quick": False,
        "runs": ("runs/plain-0.json",),
        "notes": ("Judge well.",),
        "environment": environment(),
    }
    return Answer(**{**fields, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("all")
    for name in ("first", "second"):
        make_answer(name).save(root / name / "answer.json")
    (root / "all.json").write_text(json.dumps({"studies": ["first", "second"]}))
    write(root)
    return root


def test_the_page_counts_and_tells_every_verdict(folder: Path) -> None:
    text = " ".join(Reader((folder / "report.html").read_text(encoding="utf-8")).text.split())
    assert "6 claims: 2 supported, 2 contradicted, 0 no difference, 2 not decided." in text
    assert "6 claims, each judged at 5 %: were none of the effects there, 0.3 false verdicts would be expected." in text
    assert "2 seeds, look 1 at 1 %; p 0.001, by Holm 0.006, by Benjamini-Hochberg 0.001." in text
    assert text.count("Gain: 2.2 times [1.5, 3]; supported above 1, no difference within a factor of 1.1.") == 2
    assert text.count("Gain: no figure; supported above 1, no difference within a factor of 1.1.") == 2
    assert "By seed: 2, 2.5." in text
    assert "A quick run" not in text
    assert (folder / "verdicts.md").read_text(encoding="utf-8").count("**supported**") == 2
    assert "first/runs/plain-0.json" in Reader((folder / "report.html").read_text(encoding="utf-8")).links


def test_one_study_has_a_page_of_its_own_and_quick_is_said(tmp_path: Path) -> None:
    make_answer("alone", quick=True).save(tmp_path / "answer.json")
    text = write(tmp_path).read_text(encoding="utf-8")
    assert "<h1>3 claims: 1 supported, 1 contradicted, 0 no difference, 1 not decided.</h1>" in text
    assert "A quick run, with fewer seeds" in text
    assert '<details class="figures" open>' in text


def test_everything_on_the_page_is_escaped() -> None:
    evil = replace(CLAIM, claim=EVIL, source=EVIL, effect=EVIL, unit=EVIL, remark=EVIL)
    chart = Chart(EVIL, EVIL, EVIL, (Line(EVIL, (0, 1), (1, 2)),), ticks=(EVIL, EVIL), note=EVIL)
    answer = make_answer(
        "x", question=EVIL, setting=EVIL, verdicts=(evil,), charts=(chart,), notes=(EVIL,), runs=(EVIL,)
    )
    text = render({"": replace(answer, arms={EVIL: EVIL}, recipe={EVIL: EVIL}, data={EVIL: EVIL})}, {"": []})
    assert EVIL not in text
    assert Reader(text).text.count(EVIL) > 10, "it is shown as it was written"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, {"low": 66.98, "high": 96.0, "shaded": (50.0, 100.0), "ends": ["0.333", "1", "3"]}),  # 46 log 1.5 / log 3
        ({"side": "below"}, {"shaded": (0.0, 50.0)}),
        (
            {"side": "within", "threshold": 4.0, "unit": ""},
            {"shaded": (4.0, 96.0), "value": 75.3, "ends": ["-4", "0", "4"]},
        ),
    ],
)
def test_the_gauge_has_the_threshold_in_its_middle(changes: dict[str, Any], shown: dict[str, float]) -> None:
    verdict = replace(CLAIM, **changes)
    got = _gauge(verdict, _scale([verdict]))
    assert got is not None
    assert {name: got[name] for name in shown} == shown


def test_an_effect_without_a_figure_has_no_gauge() -> None:
    assert _gauge(CLAIMS[2], 1.0) is None


def test_the_table_of_markdown() -> None:
    head, _, *rows = markdown_of_claims([make_answer("first")]).splitlines()
    assert head.startswith("3 claims: 1 supported, 1 contradicted, 0 no difference, 1 not decided. 3 claims, each")
    assert len(rows) == 2 + 3
    judged = "supported above 1, no difference within a factor of 1.1"
    assert rows[2] == (
        f"| It helps. (lecture 1) | `first` | gain: 2.2 times [1.5, 3]; {judged} | **supported** | 2 seeds, "
        "look 1 at 1 % | 0.001 | 0.003 | 0.001 |"
    )
    assert (figure(CLAIM), rule(CLAIM)) == ("2.2 times [1.5, 3]", judged)


def test_a_folder_that_lost_a_study_is_named(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text(json.dumps({"studies": ["gone"]}))
    with pytest.raises(FileNotFoundError, match=r"gone/answer\.json is missing"):
        write(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_plots_are_drawn_when_a_claim_is_opened(browser: Any, folder: Path) -> None:  # noqa: F811
    tab = Tab(browser, folder / "report.html", viewport={"width": 380, "height": 800}, color_scheme="dark")
    drawn = "() => document.querySelectorAll('.plot .main-svg').length"
    assert tab.page.evaluate(drawn) == 0
    tab.page.get_by_text("Plots, settings and runs of second").click()
    tab.page.wait_for_function("() => document.querySelectorAll('#second .plot .contourlevel path').length > 4")
    traces = tab.page.evaluate("() => [...document.querySelectorAll('#second .plot')].map((p) => p.data.length)")
    assert traces == [4, 1, 1, 1]
    assert tab.page.evaluate("() => document.querySelectorAll('#first .plot .main-svg').length") == 0
    SHOTS.mkdir(exist_ok=True)
    tab.page.screenshot(path=SHOTS / "claims-phone-dark.png", full_page=True)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 380
    assert tab.trouble == []
    tab.context.close()
