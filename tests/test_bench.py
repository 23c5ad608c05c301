"""``levelhead bench``: finds its programs, hands their options on, and names what it has not."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from levelhead import bench, cli


@pytest.fixture
def started(monkeypatch):
    """The command lines that would be started; each ends with status 7."""
    lines = []
    monkeypatch.setattr(subprocess, "run", lambda line, check: lines.append(line) or SimpleNamespace(returncode=7))
    return lines


def test_every_benchmark_is_there():
    for name in bench.BENCHMARKS:
        assert bench.script(name).is_file()


def test_options_are_handed_on_and_the_status_comes_back(started):
    assert CliRunner().invoke(cli.app, ["bench"]).exit_code == 7
    assert CliRunner().invoke(cli.app, ["bench", "dropout", "--quick", "--compile"]).exit_code == 7
    names = [(line[1].rpartition("/")[2], line[2:]) for line in started]
    assert names == [("norms.py", []), ("dropout.py", ["--turns", "3", "--compile"])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "there is no benchmark 'speed'; choose one of norms, dropout, models, memory"),
        (["models", "--compile"], "benchmark 'models' does not time torch.compile"),
    ],
)
def test_what_cannot_be_run_is_named(started, arguments, message):
    result = CliRunner().invoke(cli.app, ["bench", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not started


def test_a_package_without_benchmarks_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "site" / "levelhead" / "bench.py"))
    with pytest.raises(FileNotFoundError, match=r"this installation has no benchmarks: norms\.py"):
        bench.script("norms")
