"""The page in a browser: no error, no network, every plot drawn, readable in dark and on a phone.

Keeps screenshots in ``shots/``, to be looked at.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_page import EVIL, hostile

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright for Python")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
SHOTS = Path(__file__).parents[2] / "shots"
PLOTS = 8  # score, loss, two units, two gradients, two charts

#: Of each plot on the page: its traces as plotly.js drew them, and the paths in its picture.
DRAWN = """() => [...document.querySelectorAll('.plot')].map((plot) => ({
  id: plot.id,
  traces: plot.data.map((t) => t.x.filter((x, i) => Number.isFinite(x) && Number.isFinite(t.y[i])).length),
  paths: [...plot.querySelectorAll('.scatterlayer path')].filter((p) => (p.getAttribute('d') || '').length > 8).length,
  bad: plot.innerHTML.includes('NaN'),
  width: plot.querySelector('.main-svg').getBoundingClientRect().width,
  label: plot.getAttribute('aria-label'),
  colours: plot.data.filter((t) => t.mode !== 'markers').map((t) => t.line.color).filter(Boolean),
}))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


class Tab:
    """A page that records what goes wrong, and what it asks of the network."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("console", lambda m: self.trouble.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        self.page.route(re.compile("^(?!file:)"), self._refuse)
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-drawn]", timeout=60_000)

    def _refuse(self, route: Any) -> None:
        self.trouble.append(f"asked for {route.request.url}")
        route.abort()

    def drawn(self) -> dict[str, dict[str, Any]]:
        return {plot["id"]: plot for plot in self.page.evaluate(DRAWN)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("desktop-light", {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}),
        ("desktop-dark", {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"}),
        ("phone-light", {"viewport": {"width": 380, "height": 800}, "color_scheme": "light", "has_touch": True}),
        ("phone-dark", {"viewport": {"width": 380, "height": 800}, "color_scheme": "dark", "is_mobile": True}),
    ],
)
def test_every_plot_is_drawn(browser: Any, page: Path, name: str, context: dict[str, Any]) -> None:
    tab = Tab(browser, page, **context)
    SHOTS.mkdir(exist_ok=True)
    tab.page.screenshot(path=SHOTS / f"report-{name}.png", full_page=True)
    plots = tab.drawn()
    assert len(plots) == PLOTS
    for plot in plots.values():
        assert plot["traces"], plot["id"]
        assert min(plot["traces"]) > 0, plot["id"]
        assert plot["paths"] >= len(plot["traces"]), plot["id"]
        assert not plot["bad"], plot["id"]
        assert 250 < plot["width"] <= context["viewport"]["width"], plot["id"]
        assert len(plot["label"]) > 80, plot["id"]
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= context["viewport"]["width"]
    assert tab.trouble == []
    tab.context.close()


@pytest.mark.slow
def test_plots_follow_dark_mode_and_print_in_light(browser: Any, page: Path) -> None:
    tab = Tab(browser, page, color_scheme="light")
    light = tab.drawn()["score"]["colours"]
    tab.page.emulate_media(color_scheme="dark")
    # The browser tells the page before its next frame.
    tab.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
    dark = tab.drawn()["score"]["colours"]
    assert not set(light) & set(dark)
    printed = tab.page.evaluate("dispatchEvent(new Event('beforeprint')), getComputedStyle(document.body).color")
    assert tab.drawn()["score"]["colours"] == light
    assert printed == "rgb(29, 33, 38)"
    tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.drawn()["score"]["colours"] == dark
    assert tab.trouble == []
    tab.context.close()


@pytest.mark.slow
def test_the_controls_do_what_they_say(browser: Any, page: Path) -> None:
    tab = Tab(browser, page, viewport={"width": 1100, "height": 900})
    layout = "(id) => { const l = document.getElementById(id)._fullLayout; return {x: l.xaxis, y: l.yaxis}; }"

    def axis(plot: str, letter: str, key: str) -> Any:
        return tab.page.evaluate(f"(id) => ({layout})(id).{letter}.{key}", plot)

    assert axis("score", "x", "type") == "linear"
    tab.page.get_by_role("button", name="logarithmic").click()
    assert (axis("score", "x", "type"), axis("loss", "x", "type")) == ("log", "log")
    low, high = axis("score", "y", "range")
    assert 85 < low < 93.9 < high < 100
    tab.page.get_by_role("button", name="all", exact=True).click()
    assert axis("score", "y", "range")[0] < 20
    tab.page.screenshot(path=SHOTS / "report-controls.png", full_page=True)

    before = tab.drawn()["score"]["traces"]
    chip = tab.page.locator("#training").get_by_role("button", name="BN-x30", exact=True)
    chip.click()
    assert len(tab.drawn()["score"]["traces"]) == len(before) - 3  # band, line, crosses
    assert chip.get_attribute("aria-pressed") == "false"
    chip.click()
    assert tab.drawn()["score"]["traces"] == before

    alone = axis("unit-left", "y", "range")
    assert axis("unit-right", "y", "range") == alone
    label = tab.drawn()["unit-left"]["label"]
    tab.page.locator("select[data-plot=unit-left]").select_option("BN-x5")
    assert axis("unit-left", "y", "range") == axis("unit-right", "y", "range") != alone
    assert "BN-x5" in tab.drawn()["unit-left"]["label"] != label
    tab.page.locator("select[data-plot=loss]").select_option("validation loss")
    assert tab.drawn()["loss"]["label"].startswith("Validation loss")

    tab.page.get_by_role("button", name="Copy").click()
    playwright.expect(tab.page.locator("#copy")).to_have_text("Copied")
    assert tab.page.evaluate("navigator.clipboard.readText()") == "levelhead study batch-norm --seeds 5 --steps 4000"
    assert tab.trouble == []
    tab.context.close()


@pytest.mark.slow
def test_an_attack_is_shown_and_not_run(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(hostile(tmp_path), encoding="utf-8")
    tab = Tab(browser, tmp_path / "report.html", viewport={"width": 380, "height": 800})
    assert EVIL in tab.page.locator("h1").inner_text()
    title = tab.page.locator(".xtitle", has_text=EVIL).first.text_content()
    assert title == EVIL
    assert min(min(plot["traces"]) for plot in tab.drawn().values()) > 0
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 380
    assert tab.trouble == []
    tab.context.close()
