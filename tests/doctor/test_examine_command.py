"""``levelhead examine`` as a person at a terminal meets it: results, exit statuses, and one line for each mistake."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import pytest
from typer.testing import CliRunner

from levelhead import cli
from levelhead.doctor import Examination
from levelhead.doctor.findings import Finding
from levelhead.doctor.rules import RULES

#: Not its attribute of the package: that is the function of the same name.
ENGINE = import_module("levelhead.doctor.examination")
PROGRAM = """
import levelhead as lh
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Net(nn.Linear):
    pass

def rows(n=64):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, (x[:, 0] > 0).long())

def build({arguments}):
    torch.manual_seed(0)
    print("building, says the program")
    {before}
    model = {model}
    loss = {loss}
    train = {train}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {returned}
"""
USUAL = {
    "arguments": "",
    "before": "pass",
    "model": "nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))",
    "loss": "nn.CrossEntropyLoss()",
    "train": "DataLoader(rows(), 16, shuffle=True)",
    "returned": "lh.Program(model, loss, optimizer, train=train, val=DataLoader(rows(), 64), epochs=2)",
}


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield lambda *arguments: CliRunner().invoke(cli.app, ["examine", *map(str, arguments)])
    sys.modules.pop("mine", None)


def write(folder, **changes):
    (folder / "mine.py").write_text(PROGRAM.format(**(USUAL | changes)))
    return folder / "mine.py"


def finding(cause="learning-rate-too-high", severity="critical"):
    return Finding(
        RULES[cause].code, cause, "optimizer", severity, "seen", {"learning rate": [0.1]}, "here", (), "mend it"
    )


@pytest.fixture
def found(monkeypatch):
    """What the engine would find, so that the face alone is tested; ``calls`` are its arguments."""
    answer = {"findings": (), "calls": []}

    def examine(program, budget, **options):
        answer["calls"].append((program, budget, options))
        options["progress"]("measuring")
        return Examination(answer["findings"], program=program)

    monkeypatch.setattr(ENGINE, "examine", examine)
    return answer


@pytest.mark.parametrize(
    ("severities", "status"), [((), 0), (("info",), 0), (("warning",), 1), (("critical", "info"), 1)]
)
def test_the_exit_status_says_whether_anything_costs(invoke, tmp_path, found, severities, status):
    write(tmp_path)
    found["findings"] = tuple(finding(severity=severity) for severity in severities)
    result = invoke("mine.py:build")
    assert result.exit_code == status, result.output
    assert ("Healthy" in result.stdout) == (status == 0)


def test_json_alone_is_on_standard_output(invoke, tmp_path, found):
    write(tmp_path)
    found["findings"] = (finding(),)
    result = invoke("mine.py:build", "--json")
    assert json.loads(result.stdout)["findings"][0]["code"] == "LH601"
    assert "building, says the program" in result.stderr
    assert "measuring" in result.stderr


def test_the_options_reach_the_engine_and_the_page_is_written(invoke, tmp_path, found):
    write(tmp_path, arguments="seed")
    result = invoke("mine.py:build", "--select", "LH3,LH6", "--ignore", "LH606", "--budget", "5", "--html", "page.html")
    assert result.exit_code == 0, result.output
    _, budget, options = found["calls"][0]
    assert (budget, options["select"], options["ignore"]) == (5.0, ("LH3", "LH6"), ("LH606",))
    assert "Report: page.html" in result.stdout
    assert "mine.py:build" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_module_and_the_default_name(invoke, tmp_path, found):
    write(tmp_path)
    assert invoke("mine:build").exit_code == 0
    assert invoke("mine.py").exit_code == 0


@pytest.mark.parametrize(
    ("what", "changes", "message"),
    [
        ("absent.py:build", {}, "absent.py: there is no such file"),
        ("absent.thing:build", {}, "there is no module 'absent.thing'"),
        ("mine.py:biuld", {}, "mine.py has no function 'biuld' (did you mean 'build'?)"),
        ("mine.py:x", {}, "mine.py has no function 'x'; it defines rows, build"),
        (
            "mine.py:build",
            {"before": "raise ValueError('no data here')"},
            "mine.py, line 17: build() raised ValueError: no data here",
        ),
        ("mine.py:build", {"before": "import absent_package"}, "mine.py, line 17: build() raised ModuleNotFoundError"),
        ("mine.py:build", {"before": "raise SystemExit(3)"}, "mine.py, line 17: build() raised SystemExit: 3"),
        ("mine.py:build", {"before": "a b"}, "mine.py, line 17: invalid syntax"),
        ("mine.py:Net", {"before": "pass"}, "mine.py:Net is a class; give a function that builds the whole program"),
        ("mine.py:build", {"returned": "None"}, "mine.py:build returned None; it must return levelhead.Program"),
        ("mine.py:build", {"returned": "7"}, "a int is no training program, it lacks model, loss, optimizer, train"),
        ("mine.py:build", {"arguments": "width, depth"}, "needs arguments (width, depth)"),
    ],
)
def test_a_mistake_in_what_is_given_is_one_line(invoke, tmp_path, what, changes, message):
    write(tmp_path, **changes)
    one_line(invoke(what), message)


def one_line(result, message):
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("levelhead: ")]
    assert lines == [result.stderr.splitlines()[-1]]
    assert message in lines[0]
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"train": "[]"}, ("batch",)),
        ({"train": "iter(DataLoader(rows(), 16))"}, ("one pass uses up", "give a DataLoader")),
        ({"loss": "nn.CrossEntropyLoss(reduction='none')"}, ("one number a batch", "(16,)")),
        ({"model": "nn.Linear(5, 2)"}, ("batch 1", "RuntimeError", "shapes cannot be multiplied")),
        ({"train": "[*list(DataLoader(rows(), 16))[:1], (torch.ones(4, 5), torch.ones(4))]"}, ["batch 2"]),
        ({"model": "nn.Linear(6, 2, device='meta')"}, ("meta device",)),
        ({"loss": "lambda outputs, targets: (outputs - torch.ones(7)).mean()"}, ("mine.py, line 19", "RuntimeError")),
    ],
    ids=["empty", "iterator", "vector loss", "first batch", "second batch", "another device", "line of the loss"],
)  # fmt: skip
def test_a_program_that_fails_is_one_line(invoke, tmp_path, changes, messages):
    write(tmp_path, **changes)
    result = invoke("mine.py:build", "--budget", "3")
    for message in messages:
        one_line(result, message)


def test_a_program_that_ends_itself_is_no_healthy_one(invoke, tmp_path):
    write(tmp_path, loss="lambda outputs, targets: __import__('sys').exit(0)")
    one_line(invoke("mine.py:build", "--budget", "3"), "mine.py, line 19: the program's step called sys.exit(0)")


def test_bad_options(invoke, tmp_path):
    write(tmp_path)
    one_line(invoke("mine.py:build", "--select", "LH999"), "no rule 'LH999'")
    one_line(invoke("mine.py:build", "--budget", "0"), "the budget must be above 0 seconds, got 0")


def test_the_doctors_own_failure_is_not_a_finding(invoke, tmp_path, monkeypatch):
    write(tmp_path)

    def broken(*_, **__):
        raise KeyError("ours")

    monkeypatch.setattr(ENGINE, "examine", broken)
    result = invoke("mine.py:build")
    assert result.exit_code == 2
    assert "the doctor itself failed (KeyError)" in result.stderr


def test_ctrl_c(invoke, tmp_path):
    write(tmp_path, before="raise KeyboardInterrupt")
    result = invoke("mine.py:build")
    assert result.exit_code == 130
    assert "levelhead: stopped" in result.stderr


def test_help_has_examples(invoke):
    result = invoke("--help")
    assert "levelhead examine train.py:build --treat" in result.stdout
    assert "0 healthy, 1 findings, 2 could not run" in result.stdout


def test_a_whole_examination(invoke, tmp_path):
    write(tmp_path, train="[(x * torch.nan, y) for x, y in DataLoader(rows(), 16)]")
    result = invoke("mine.py:build", "--budget", "5")
    assert result.exit_code == 1, result.output
    assert "LH106 non-finite-data  [critical]  at data" in result.stdout
