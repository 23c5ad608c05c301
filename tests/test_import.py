"""What ``import levelhead`` costs: only torch and numpy."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import levelhead as lh

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


def test_import_brings_none_of_the_extras():
    program = "import sys, levelhead; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(result.stdout.split())
    assert "torch" in modules
    assert modules & EXTRAS == set()


def test_every_public_name_is_there():
    for name in lh.__all__:
        assert getattr(lh, name) is not None
    assert dir(lh) == sorted(lh.__all__)


def test_another_name_is_not():
    with pytest.raises(AttributeError, match="no attribute 'Normalizer'"):
        _ = lh.Normalizer


def test_the_floors_hold(capfd):
    """The import contract of pyproject.toml, run as ``lint-imports`` does."""
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS, capfd.readouterr().out


def test_the_constraints_name_every_dependency():
    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {entry.split(">")[0] for group in groups for entry in group if not entry.startswith("levelhead")}
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (root / "constraints.txt").read_text().splitlines()
    }
    assert wanted - pinned == set()
