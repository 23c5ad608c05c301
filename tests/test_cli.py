"""The commands as a person at a terminal meets them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import levelhead as lh
from levelhead import cli, install

ENVIRONMENT = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
# A study of a minute on a slow machine, of seconds on others: three arms and two seeds on 1,797 digits.
SMALL = [
    *("my.toml", "--data", "digits", "--seeds", "2", "--steps", "40", "--depth", "1", "--workers", "2"),
    *("--arm", "plain", "--arm", "BN-x5"),
]


#: Of a sweep that has no more than it must.
GRID = 'learning_rates = [0.1, 0.3]\ninitializations = ["he"]\ndepths = [1]\n'


def levelhead(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from levelhead.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        check=False,
        timeout=240,
    )


def settings_file(folder, text):
    path = folder / "my.toml"
    path.write_text(text)
    return path


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.mark.parametrize("command", ["study", "train", "stats", "examine", "watch", "bench", "report"])
def test_every_command_has_examples(invoke, command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"levelhead {command}" in result.stdout.partition("Example")[2]


def test_the_studies_are_listed_with_their_questions(invoke):
    result = invoke("study", "--list")
    assert result.exit_code == 0
    assert "batch-norm" in result.stdout
    assert "How many fewer steps does batch normalization need" in result.stdout
    one = invoke("study", "dropout", "--list")
    assert "Dropout prevents overfitting." in one.stdout
    assert "there is no study 'dropuot'" in invoke("study", "dropuot", "--list").stderr


def test_the_version_and_completion(invoke):
    assert invoke("--version").stdout == f"levelhead {lh.__version__}\n"
    assert "--install-completion" in invoke("--help").stdout
    shell = {**ENVIRONMENT, "_LEVELHEAD_COMPLETE": "complete_bash", "COMP_WORDS": "levelhead ex", "COMP_CWORD": "1"}
    program = [sys.executable, "-c", "import sys; sys.argv[0] = 'levelhead'; from levelhead.cli import main; main()"]
    assert subprocess.run(program, env=shell, capture_output=True, text=True, check=True).stdout.strip() == "examine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "batch-nrm"], "there is no study 'batch-nrm' (did you mean 'batch-norm'?)"),
        (["study", "absent.toml"], "absent.toml: there is no such file"),
        (["study", "--data", "nope"], "no data set 'nope'"),
        (["study", "--data", "wine", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["study", "--data", "wine", "--workers", "0"], "workers must be at least 1, got 0"),
        (["study", "--data", "wine", "--arm", "BN-x7"], "the study has no arm 'BN-x7' (did you mean 'BN-x5'?)"),
        (["study", "--data", "wine", "--network", "mlpp"], "network = 'mlpp' is not a choice (did you mean 'mlp'?)"),
        (["study", "--data", "wine", "--steps", "0"], "steps must be at least 1, got 0"),
        (["train", "absent.toml", "--data", "wine"], "absent.toml"),
        (["stats", "wine", "--save", "s.txt"], "s.txt: a Standardizer is saved as .json or .safetensors, got '.txt'"),
        (["stats", "nope"], "no data set 'nope'"),
        (["report", "."], "answer.json"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_status_2(invoke, arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("levelhead: ")]
    assert len(lines) == 1
    assert result.stderr.splitlines()[-1] == lines[0]
    assert message in lines[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = ", "not valid TOML"),
        ("sedes = 3", "a study has no setting 'sedes' (did you mean 'seeds'?)"),
        ("seeds = 'three'", "seeds must be a whole number, got 'three'"),
        ("seeds = true", "seeds must be a whole number, got True"),
        ("data = 'wine'\n[arms.mine]\nlerning_rate = 1.0", "arm 'mine': a recipe has no 'lerning_rate'"),
        ("study = 'compare'\ndata = 'wine'", "the study 'compare' needs arms"),
        ("learning_rates = [0.1, -1.0]", "learning_rates must be above 0, got -1.0"),
    ],
)
def test_a_mistake_in_a_file_of_settings(invoke, tmp_path, text, message):
    result = invoke("study", settings_file(tmp_path, text))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_csv_with_a_bad_cell(invoke, tmp_path):
    (tmp_path / "bad.csv").write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(50)) + "oops,1\n")
    result = invoke("study", "--data", "bad.csv", "--target", "y")
    assert result.exit_code == 2
    assert "bad.csv, row 52, column 'a'" in result.stderr


def test_statistics_as_a_table_and_as_json(invoke, tmp_path):
    (tmp_path / "some.csv").write_text("a,b\n1,2\n3,\n5,4\n")
    found = json.loads(invoke("stats", "some.csv", "--json").stdout)
    a, b = found["features"]
    assert (a["name"], a["count"], a["mean"], a["min"], a["max"], a["missing"]) == ("a", 3, 3.0, 1.0, 5.0, 0)
    assert a["std"] == pytest.approx((8 / 3) ** 0.5, rel=1e-12)
    assert (b["count"], b["mean"], b["missing"]) == (2, 3.0, 1)
    table = invoke("stats", "some.csv").stdout
    assert "1.63299" in table
    assert "missing" in table


@pytest.mark.parametrize("name", ["s.json", "s.safetensors"])
def test_a_standardizer_is_saved(invoke, tmp_path, name):
    (tmp_path / "some.csv").write_text("a,b,c\n1,2,x\n3,,y\n5,4,z\n")
    result = invoke("stats", "some.csv", "--save", name)
    assert result.exit_code == 0, result.output
    assert f"Standardizer of 2 features: {name}" in result.stderr
    loaded = lh.Standardizer.load(tmp_path / name)
    assert list(loaded.feature_names_in_) == ["a", "b"]
    assert loaded.n_samples_seen_.tolist() == [3, 2]
    expected = lh.Standardizer().fit(torch.tensor([[1, 2], [3, torch.nan], [5, 4.0]], dtype=torch.float64))
    for mine, other in zip(loaded.state_dict().values(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-15, atol=0)
    (tmp_path / "texts.csv").write_text("c\nx\ny\n")
    assert "no column of numbers" in invoke("stats", "texts.csv", "--save", name).stderr


def test_train_goes_on_and_keeps_its_run(invoke, tmp_path):
    recipe = settings_file(tmp_path, "steps = 30\nevaluate_every = 10\ndepth = 1\ncheckpoint_every = 10\n")
    first = invoke("train", recipe, "--data", "wine", "--out", "mine")
    assert first.exit_code == 0, first.output
    assert "Best validation accuracy" in first.stdout
    run = json.loads((tmp_path / "mine" / "run.json").read_text())
    assert (run["steps"], run["status"]) == (30, "finished")
    again = invoke("train", recipe, "--data", "wine", "--out", "mine")
    assert again.stdout == first.stdout, "a finished run is found, not made again"
    recipe.write_text("steps = 40\n")
    other = invoke("train", recipe, "--data", "wine", "--out", "mine")
    assert other.exit_code == 2
    assert "levelhead: " in other.stderr


@pytest.mark.slow
def test_a_study_from_the_command_line_to_the_report_and_again_from_its_own_settings(tmp_path):
    out = tmp_path / "out"
    settings_file(tmp_path, GRID)
    first = levelhead("study", *SMALL, "--out", out, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "BN-x5" in first.stdout
    assert re.search(
        r"^(Faster|Slower|No difference.*|Not decided.*): Batch normalization needs fewer", first.stdout, re.MULTILINE
    ), first.stdout
    report = Path(first.stdout.strip().splitlines()[-1].removeprefix("Report: "))
    assert (tmp_path / report).stat().st_size > 10_000
    answer = json.loads((out / "answer.json").read_text())
    assert [row["arm"] for row in answer["rows"]] == ["plain", "BN-x5"]
    assert all((out / path).exists() for path in answer["runs"])
    assert {chart["title"] for chart in answer["charts"]} == {
        "The sweep that the baseline's learning rate and initialization come from",
        "The speed-up by depth",
        "The speed-up against the target",
    }
    again = levelhead("study", out / "study.toml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert "best accuracy" not in again.stderr, "no run was made again"


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(tmp_path):
    out = tmp_path / "out"
    settings_file(tmp_path, GRID)
    command = [sys.executable, "-c", "from levelhead.cli import main; main()", "study", *SMALL, "--out", str(out)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        cwd=tmp_path,
    )
    end = time.monotonic() + 120
    while len(list(out.glob("runs/*.json"))) < 4:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "levelhead: stopped; " in err
    assert f"finished runs are kept in {out}, the same command goes on" in err
    assert "Traceback" not in err
    kept = len(list(out.glob("runs/*.json")))
    again = levelhead("study", *SMALL, "--out", out, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("best accuracy") == len(list(out.glob("runs/*.json"))) - kept


def test_a_command_whose_packages_are_not_installed_says_how_to_install_them(tmp_path):
    (tmp_path / "polars.py").write_text("raise ModuleNotFoundError('none', name='polars')")
    (tmp_path / "some.csv").write_text("a\n1\n2\n")
    result = subprocess.run(
        [sys.executable, "-c", "from levelhead.cli import main; main()", "stats", str(tmp_path / "some.csv")],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == f"levelhead: the package polars is missing; try: {install.hint('study')}\n"
