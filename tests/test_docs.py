"""The site: built without a warning, every public name in it, read and searched in a browser; its programs run."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

import levelhead as lh
from levelhead.studies import LECTURES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
#: The rooms whose ``__all__`` is public, and the modules that are imported by themselves.
ROOMS = ("ops", "nn", "regularizers", "init", "data", "training", "studies", "doctor", "report")
ALONE = sorted(path for path in (ROOT / "src/levelhead/integrations").glob("[!_]*.py") if path.stem != "watching")
#: What is described with the first names, and not with its room.
HOMES = {"levelhead.moments": "levelhead", "levelhead.allocator": "levelhead"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def programs(page: str) -> dict[str, str]:
    """The programs of a page by their headings, each behind the lines that the page opens with."""
    head, *parts = re.split(r"^## ", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    (opening,) = BLOCK.findall(head)
    return {part.split("\n")[0]: "\n".join([opening, *BLOCK.findall(part)]) for part in parts}


PROGRAMS = {(page, name): code for page in ("tasks.md", "trainers.md") for name, code in programs(page).items()}


def test_the_pages_have_programs():
    assert len(programs("tasks.md")) >= 6
    assert len(programs("trainers.md")) >= 12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the trainers warn of is theirs
@pytest.mark.parametrize(("page", "name"), PROGRAMS, ids=[" ".join(place) for place in PROGRAMS])
def test_a_program_runs(page, name, tmp_path, monkeypatch):
    code = PROGRAMS[page, name]
    for package in re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    program = tmp_path / "program.py"
    program.write_text(code)
    monkeypatch.chdir(tmp_path)
    if "# torchrun" in code:
        ranks = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", program)
        found = start(*ranks)
        # PyTorch 2.13's, without levelhead too, at exit, in 1 of 40 runs on a busy machine: a thread of gloo that still
        # holds the last collective's tensors asks for the GIL of an interpreter that ends, and the process aborts.
        if found.returncode and "terminate called without an active exception" in found.stderr:
            found = start(*ranks)
    elif "__main__" in code:
        found = start(program)  # it starts processes that import it
    else:
        runpy.run_path(str(program))
        return
    assert found.returncode == 0, found.stderr[-3000:]


def start(*command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, timeout=280
    )


@pytest.mark.parametrize("text", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "findings/README.md"])
def test_the_links_of_the_checkout_lead_somewhere(text):
    path = ROOT / text
    links = re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_first_page_and_the_lectures_tell_the_same_run():
    lectures, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/lectures.md", "README.md"))
    rows = re.findall(r"^\| .*? \| `([a-z-]+)` \| (.*?) \| \*\*(\w+(?: \w+)?)", lectures, re.MULTILINE)
    ruled = Counter(ruling for *_, ruling in rows)
    said = f"{len(rows)} claims: " + ", ".join(
        f"{ruled[ruling]} {ruling}" for ruling in ("supported", "contradicted", "no difference", "not decided")
    )
    assert {study for study, *_ in rows} == set(LECTURES)
    assert f"{said}." in readme
    assert f"{said}." in lectures
    target = re.search(r"^\| arm \| steps to ([\d.]+ %)", readme, re.MULTILINE)
    for arm, speedup in re.findall(r"^\| (BN-\S+) \| .*? of \d+ \| (.*? times \[.*?\]) ", readme, re.MULTILINE):
        told = [effect for study, effect, _ in rows if study == "batch-norm" and f"steps to {target[1]}" in effect]
        assert arm == "BN-x5-sigmoid" or any(f"plain over {arm}: {speedup};" in effect for effect in told)


def test_every_finding_is_listed_pinned_and_without_levelhead():
    listed = (ROOT / "findings" / "README.md").read_text(encoding="utf-8")
    scripts = sorted((ROOT / "findings").glob("*.sh"))
    assert len(scripts) >= 8
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        (install,) = re.findall(r"^.*/pip\" install .*$", text, re.MULTILINE)
        packages = install.split("--disable-pip-version-check ")[1].split()
        assert packages, path
        assert all("==" in package for package in packages), path
        assert "levelhead" not in text, path
        assert f"({path.name})" in listed, path
        assert os.access(path, os.X_OK), path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    """The site served, as a search needs it: a browser does not fetch from files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / ".doctrees"]
    result = subprocess.run([*command, DOCS, folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site):
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as stream:
        inventory = InventoryFile.load(stream, "", lambda base, name: name)
    found = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    wanted = {
        f"levelhead.integrations.{path.stem}.{name}"
        for path in ALONE
        for name in re.findall(r"^(?:class|def) ([A-Za-z]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(wanted) >= 4
    wanted |= {f"{home}.{name}" for name in lh.__all__ if (home := HOMES.get(lh._LAZY[name], lh._LAZY[name]))}
    for room in ROOMS:
        wanted |= {f"levelhead.{room}.{name}" for name in import_module(f"levelhead.{room}").__all__}
    assert sorted(wanted - found) == []
    front = (site / "api" / "levelhead.html").read_text(encoding="utf-8")
    assert [name for name in lh.__all__ if f"lh.{name}<" not in re.sub(r"</?span[^>]*>", "", front)] == []


#: A word, and a page that must be among the first results of a search for it.
WORDS = {
    "padding": "masks.html",
    "dropout_add_layer_norm": "api/ops.html",
    "recalibrate": "api/nn.html",
    "onnx": "trainers.html",
    "whiten": "standardizer.html",
}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_site_in_a_browser(site, address):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright for Python")
    shots = ROOT / "shots"
    shots.mkdir(exist_ok=True)
    pages = sorted(path for path in site.rglob("*.html") if not path.name.startswith(("genindex", "py-modindex")))
    assert len(pages) > 35
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        trouble = []
        for name, width, height in (("phone", 390, 844), ("desktop", 1280, 900)):
            page = browser.new_page(viewport={"width": width, "height": height})
            page.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: trouble.append(str(error)))
            page.on("request", lambda r: trouble.append(r.url) if not r.url.startswith((address, "data:")) else None)
            for path in pages:
                page.goto(f"{address}{path.relative_to(site)}")
                across = page.evaluate("document.documentElement.scrollWidth")
                assert across <= width, f"{path.name} is {across} wide on a {name}"
                if path.stem in ("index", "ops", "masks"):
                    page.screenshot(path=shots / f"site-{name}-{path.parent.name}-{path.stem}.png")
        for word, wanted in WORDS.items():
            page.goto(f"{address}search.html?q={word}")
            page.wait_for_selector("#search-results li a")
            hrefs = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
            found = [href.removeprefix(address).partition("?")[0].partition("#")[0] for href in hrefs]
            assert wanted in found[:8], (word, found)
        browser.close()
    assert trouble == []
