"""The page as text: what it says, what it escapes, what it says of broken files."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from example_study import ARMS, INF, NAN, make_run, make_study

from levelhead.lessons import Answer, figure
from levelhead.records import Interval, Run
from levelhead.report import render, write
from levelhead.report.page import headline
from levelhead.report.parts import colours

EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """The text of each table row, the links, and how many scripts there are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.outside: list[str] = []
        self.text = ""
        self.scripts = 0
        self.in_script = self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.scripts += tag == "script"
        self.in_script = tag in ("script", "style")
        self.outside += [v for n, v in given.items() if n in ("src", "srcset", "action", "data")] + (
            [given["href"]] if tag == "link" else []
        )
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True
        if tag == "a":
            self.links.append(given["href"])

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.in_script = False
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_script:
            return
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


def spec(page: str) -> list[dict]:
    """The plots as the script gets them."""
    packed = base64.b64decode(re.search(r'id="plots">(.*?)</script>', page, re.DOTALL).group(1))
    return json.loads(gzip.decompress(packed), parse_constant=pytest.fail)["plots"]


def cells(page: str, arm: str) -> list[str]:
    return next(row for row in Reader(page).rows if row and row[0].split(" ")[0] == arm)


def test_the_table_spells_out_what_was_not_reached(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    answer = Answer.load(page.parent / "answer.json")
    plain, never = cells(text, "plain"), cells(text, "BN-x30")
    assert plain[1:4] == ["4,000 [3,500, not reached]", "3 of 5", "1 times"]
    assert never[1:3] == ["not in 4,000", "0 of 5 (4 diverged)"]
    assert never[3].startswith("no figure")
    assert cells(text, "BN-x5")[3].startswith(figure(answer.rows[2].verdict))
    assert "Faster: BN-baseline against plain, " + figure(answer.rows[1].verdict) in " ".join(Reader(text).text.split())
    assert not re.search(r"\b(nan|inf|infinity)\b", Reader(text).text, re.IGNORECASE)


@pytest.mark.parametrize(("ruling", "figured"), [("supported", True), ("not decided", False)])
def test_the_headline_has_a_figure_where_it_is_decided_and_the_lead_does_not_repeat_it(page, ruling, figured) -> None:
    answer = Answer.load(page.parent / "answer.json")
    first = replace(answer.verdicts[0], ruling=ruling, would=54)
    rows = [replace(row, verdict=first) if row.verdict == answer.verdicts[0] else row for row in answer.rows]
    title, lead = headline(replace(answer, verdicts=(first, *answer.verdicts[1:]), rows=tuple(rows)))
    assert title.startswith(("Faster: BN-baseline against plain", "Not decided: BN-baseline against plain"))
    assert (figure(first) in title) == figured
    assert lead.startswith("Steps to 93.9 % on mnist5k: " + figure(first))


def test_the_page_says_how_it_was_made(page: Path) -> None:
    read = Reader(page.read_text(encoding="utf-8"))
    answer = Answer.load(page.parent / "answer.json")
    said = " ".join(read.text.split())
    for words in (answer.question, *headline(answer), *answer.notes, answer.environment["command"]):
        assert words in said
    for value in (*answer.environment["versions"].values(), answer.environment["machine"]["processor"]):
        assert str(value) in said
    assert all((page.parent / link).is_file() for link in read.links)
    assert len(read.links) == 1 + len(answer.runs)
    assert page.stat().st_size < 2.5e6


def test_nothing_is_asked_of_a_network(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert Reader(text).outside == []
    assert "default-src 'none'" in text


def told(value: float) -> float:
    """To the six digits that a page has."""
    return float(f"{value:.6g}")


def test_the_curves_are_the_medians_of_the_run_files(page: Path) -> None:
    runs = [Run.load(page.parent / f"runs/plain-{seed}.json") for seed in range(5)]
    plots = {plot["id"]: plot for plot in spec(page.read_text(encoding="utf-8"))}
    drawn = next(t for t in plots["score"]["traces"] if t.get("name") == "plain")
    for i, y in enumerate(drawn["y"]):
        assert y == told(100 * sorted(run.score.values[i] for run in runs)[2])
    first = runs[0].curves["unit_input_p85"]
    sees = next(
        t
        for t in plots["unit-left"]["traces"]
        if t.get("name") == "85th percentile" and t["meta"] == {"option": "plain"}
    )
    assert sees["y"] == list(map(told, first.values))
    assert (plots["unit-left"]["chosen"], plots["unit-right"]["chosen"]) == ("plain", "BN-baseline")


def test_diverged_runs_are_marked(page: Path) -> None:
    plots = {plot["id"]: plot for plot in spec(page.read_text(encoding="utf-8"))}
    for name in ("score", "loss"):
        crosses = [t for t in plots[name]["traces"] if t.get("marker", {}).get("symbol") == "x-thin"]
        assert {t["legendgroup"] for t in crosses} == {"BN-x30"}
        assert all(len(t["x"]) == 4 for t in crosses)
    line = next(t for t in plots["score"]["traces"] if t.get("name") == "BN-x30")
    assert max(line["x"]) == 1000  # where the third of five ended
    loss = plots["loss"]["layout"]["yaxis"]["range"]
    assert loss[1] < 1, "one exploding loss must not flatten the others: the frame ends at twice the first loss"


def _points(trace: dict) -> list[tuple[float, float]]:
    return list(zip(trace["x"], trace["y"], strict=True))


def test_a_charts_point_without_a_value_is_a_cross_at_the_edge(page: Path) -> None:
    sweep, depth = (plot for plot in spec(page.read_text(encoding="utf-8")) if plot["id"].startswith("batch-norm-"))
    lost = [(x, y < 0.5) for t in sweep["traces"] if t.get("yaxis") == "y2" for x, y in _points(t)]
    assert lost == [(1.0, True), (3.0, True), (3.0, True)]
    lost = [(x, y < 0.5) for t in depth["traces"] if t.get("yaxis") == "y2" for x, y in _points(t)]
    assert lost == [(10.0, False)]
    bars = next(t["error_y"] for t in depth["traces"] if t.get("name") == "BN-x5")
    assert bars["array"][:2] == pytest.approx([0.5, 0.8])
    low, high = depth["layout"]["yaxis"]["range"]
    assert 1 < low < 1.8  # the smallest finite end
    assert 6.4 < high < 8 < bars["array"][2], "a bar without a bound leaves the frame"


def hostile(folder: Path) -> str:
    """A study in which every text is an attack."""
    runs = [replace(make_run("plain", seed), arm=EVIL, data={"name": EVIL}, message=EVIL) for seed in range(2)]
    for run in runs:
        run.save(folder / f"{run.seed} <b>.json")
    answer = make_study(folder)
    row = replace(answer.rows[0], arm=EVIL, settings={EVIL: EVIL})
    chart = replace(answer.charts[0], title=EVIL, x_label=EVIL, y_label=EVIL, note=EVIL)
    chart = replace(chart, lines=tuple(replace(line, name=EVIL) for line in chart.lines))
    verdict = replace(answer.verdicts[0], claim=EVIL, effect=EVIL, remark=EVIL, words=(EVIL, EVIL))
    evil = replace(
        answer,
        study=EVIL,
        question=EVIL,
        setting=EVIL,
        target_from=EVIL,
        baseline=EVIL,
        verdicts=(verdict,),
        rows=(row, replace(row, verdict=verdict)),
        charts=(chart,),
        data={"name": EVIL},
        recipe={EVIL: EVIL},
        runs=("0 <b>.json", "javascript:alert(1)"),
        notes=(EVIL,),
        environment={"command": EVIL, "machine": {EVIL: EVIL}, "versions": {EVIL: EVIL}, "started": EVIL},
    )
    return render({"": evil}, {"": runs})


def test_everything_is_escaped(tmp_path: Path, page: Path) -> None:
    text = hostile(tmp_path)
    read = Reader(text)
    assert EVIL not in text
    assert read.scripts == Reader(page.read_text(encoding="utf-8")).scripts
    assert read.text.count(EVIL) > 15, "it is shown as it was written"
    assert read.links == ["answer.json", "0%20%3Cb%3E.json", "javascript%3Aalert%281%29"]
    named = [trace["name"] for plot in spec(text) for trace in plot["traces"] if "name" in trace]
    assert not [name for name in named if "<" in name], "plotly.js would read it as markup"


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    make_study(tmp_path)
    (tmp_path / "runs/BN-x5-3.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"runs/BN-x5-3\.json is missing, though .*answer\.json names it"
    ) as lost:
        write(tmp_path)
    assert "\n" not in str(lost.value)
    (tmp_path / "runs/plain-0.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"runs/plain-0\.json and 1 more is missing"):
        write(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_corrupt_run_is_named_and_the_old_page_stays(tmp_path: Path) -> None:
    make_study(tmp_path)
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    (tmp_path / "runs/plain-2.json").write_text('{"arm": "pl', encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs/plain-2\.json is not valid JSON") as bad:
        write(tmp_path)
    assert "\n" not in str(bad.value)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "old"


def test_a_folder_without_an_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"answer\.json is missing: .* is not a study's folder"):
        write(tmp_path)


def test_runs_and_their_names_must_match(tmp_path: Path) -> None:
    answer = make_study(tmp_path)
    with pytest.raises(ValueError, match="got 1 for 30 names"):
        render({"": answer}, {"": [make_run("plain", 0)]})


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_study_in_which_nothing_worked_still_has_a_page(tmp_path: Path, status: str) -> None:
    answer = make_study(tmp_path)
    run = replace(make_run("plain", 0), status=status, curves={}, test_score=NAN, message="out of memory")
    none, never = Interval(NAN, NAN, NAN), Interval(INF, INF, INF)
    row = replace(answer.rows[0], runs=1, failed=1, reached=0, steps=never, best=none, test=none)
    alone = replace(answer, rows=(row,), verdicts=(), charts=(), runs=("a.json",), notes=())
    text = render({"": alone}, {"": [run]})
    assert spec(text) == []
    assert "out of memory" in Reader(text).text
    assert cells(text, "plain")[1:] == ["not in 4,000", "0 of 1 (1 failed)", "1 times", "–", "–"]


def test_a_target_that_is_not_a_number_is_no_number_on_the_page(tmp_path: Path) -> None:
    """Where no run of the baseline has a score; ``spec`` fails on NaN, which the browser could not read."""
    make_study(tmp_path, target=NAN)
    text = write(tmp_path).read_text(encoding="utf-8")
    score = next(plot for plot in spec(text) if plot["id"] == "score")
    assert score["layout"]["shapes"][0]["y0"] is None
    assert not re.search(r"\bnan\b", Reader(text).text, re.IGNORECASE)


def test_an_arm_has_one_colour_and_the_baselines_is_neutral() -> None:
    palette = colours(list(ARMS), "plain")
    assert palette["plain"] == "--arm-0"
    assert len(set(palette.values())) == len(ARMS)


def test_a_report_needs_no_torch(page: Path, tmp_path: Path) -> None:
    blocked = (
        "import sys, types, pathlib\n"
        "sys.modules['torch'] = None\n"  # any import of it raises
        "package = types.ModuleType('levelhead'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['levelhead'] = package\n"
        "from levelhead.report import write\n"
        "write(pathlib.Path(sys.argv[2]))\n"
    )
    make_study(tmp_path)
    import levelhead

    subprocess.run(
        [sys.executable, "-c", blocked, str(Path(levelhead.__file__).parent), str(tmp_path)], check=True, timeout=60
    )
    assert (tmp_path / "report.html").stat().st_size > 1e6
