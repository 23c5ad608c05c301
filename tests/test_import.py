"""What an installation holds, and what ``import levelhead`` and the command's help cost."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module, metadata
from pathlib import Path

import pytest

import levelhead as lh
from levelhead import bench, install
from levelhead.studies import STUDIES, find
from levelhead.studies.registry import questions

ROOT = Path(__file__).parent.parent
EXTRAS = {
    "jinja2",
    "kornia",
    "lightning_fabric",
    "mlxtend",
    "onnx",
    "PIL",
    "plotly",
    "polars",
    "rich",
    "sklearn",
    "triton",
    "typer",
}


#: What each of these brings in must stay without.
LIGHT = {
    "import levelhead; levelhead.__version__": {"torch", "numpy", *EXTRAS},
    "import levelhead; [getattr(levelhead, name) for name in levelhead.__all__]": EXTRAS,
    "from levelhead.cli import main; main()": {"torch", "numpy", *EXTRAS} - {"typer", "rich"},
    "from levelhead.cli import main; main(); 'study --list'": {"torch", *EXTRAS} - {"typer", "rich"},
}


@pytest.mark.parametrize("program", LIGHT)
def test_nothing_is_imported_before_it_is_needed(program):
    arguments = program.partition("; '")[2].rstrip("'").split() or ["--help"]
    tell = "import atexit, sys; atexit.register(lambda: print(*{name.split('.')[0] for name in sys.modules}))\n"
    result = subprocess.run(
        [sys.executable, "-c", tell + program, *arguments], capture_output=True, text=True, check=True
    )
    modules = set(result.stdout.splitlines()[-1].split())
    assert "levelhead" in modules
    assert modules & LIGHT[program] == set()


@pytest.mark.parametrize("program", ["from levelhead.data import load", "import levelhead; levelhead.Moments"])
def test_moments_have_their_kernel_wherever_they_come_from(program):
    check = f"{program}\nfrom levelhead import moments\nassert moments._fast"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_version_is_the_installed_one(capsys):
    assert lh.__version__ == metadata.version("levelhead")
    assert lh.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_list_asks_what_the_studies_ask():
    assert questions() == {name: find(name).QUESTION for name in STUDIES}


def test_the_hint_for_an_extra_fits_the_installation(monkeypatch, tmp_path):
    assert install.hint("study") == f"cd {ROOT} && pip install -c constraints.txt -e '.[study]'"
    monkeypatch.setattr(install, "__file__", str(tmp_path / "site-packages" / "levelhead" / "install.py"))
    assert install.hint("study") == "pip install 'levelhead[study]'"


def test_the_wheel_holds_the_package_and_four_benchmarks(tmp_path):
    build = f"from scikit_build_core.build import build_wheel; build_wheel({str(tmp_path)!r})"
    environment = {**os.environ, "LEVELHEAD_PURE": "1"}
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, env=environment, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {name.removeprefix("levelhead/benchmarks/") for name in names if name.startswith("levelhead/benchmarks/")}
    assert ours == {f"{name}.py" for name in bench.BENCHMARKS}
    package = ROOT / "src"
    assert {str(path.relative_to(package)) for path in package.rglob("*.py")} <= names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"levelhead"}


def test_every_public_name_is_there():
    for name in lh.__all__:
        assert getattr(lh, name) is not None
    assert dir(lh) == sorted([*lh.__all__, "__version__"])


@pytest.mark.parametrize(
    "room", ["data", "doctor", "init", "nn", "ops", "regularizers", "report", "studies", "training"]
)
def test_a_room_shows_its_public_names(room):
    """What is imported when first used is found by completion, and by the reference."""
    module = import_module(f"levelhead.{room}")
    assert sorted(set(module.__all__) - set(dir(module))) == []


def test_another_name_is_not():
    with pytest.raises(AttributeError, match="no attribute 'Normalizer'"):
        _ = lh.Normalizer


def test_the_floors_hold(capfd):
    """The import contract of pyproject.toml, run as ``lint-imports`` does."""
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS, capfd.readouterr().out


def test_the_constraints_name_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {entry.split(">")[0] for group in groups for entry in group if not entry.startswith("levelhead")}
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert wanted - pinned == set()
