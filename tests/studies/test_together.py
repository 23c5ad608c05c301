"""All studies in one folder: with real processes, resumed, one left out; and the options of the command."""

import json

import lecture_fakes
import pytest
from test_pool import Listener
from typer.testing import CliRunner

from levelhead import cli
from levelhead.data import load
from levelhead.records import Run
from levelhead.references import source
from levelhead.report import write
from levelhead.studies import Settings, SettingsError, run_all
from levelhead.studies.experiment import Experiment
from levelhead.studies.jobs import Job, kept
from levelhead.training import Recipe


def loads(data, *, standardize):
    return load(data, standardize=standardize)


@pytest.mark.slow
def test_all_studies_share_workers_go_on_without_the_broken_one_and_resume(tmp_path, monkeypatch):
    lecture_fakes.register(monkeypatch)
    settings = Settings(out=str(tmp_path), seeds=2, workers=1)
    first, second = Listener(), Listener()
    lessons = run_all(settings, load=loads, watcher=first)
    assert [lesson.study for lesson in lessons] == ["first", "second"]
    assert [lesson.data["name"] for lesson in lessons] == ["digits", "wine"], "the workers were given the other data"
    assert first.fresh == 12
    assert [text for text in first.said if text.startswith("Study ")][1] == "Study 2 of 3: second. Is second so?"
    assert "broken is left out: every run of the arm 'plain' failed: RuntimeError: no such layer" in first.said[-1]
    run = Run.load(tmp_path / "second/runs/BN-1.json")
    assert run.asked == {"observe": f"flow of {source('levelhead.studies.observers')}"}
    assert "decay" in run.curves
    assert json.loads((tmp_path / "all.json").read_text())["studies"] == ["first", "second"]
    assert write(tmp_path).read_text(encoding="utf-8").count('class="study"') == 2
    names = {name: study for name, study in lecture_fakes.STUDIES.items() if name != "broken"}
    monkeypatch.setattr("levelhead.studies.together.LECTURES", names)
    again = run_all(settings, load=loads, watcher=second)
    assert (second.fresh, second.reused) == (0, 8)
    assert [repr(lesson.verdicts) for lesson in again] == [repr(lesson.verdicts) for lesson in lessons]


def test_a_run_of_another_view_or_observer_is_made_again(tmp_path):
    study = lecture_fakes.STUDIES["first"]
    recipe = Recipe()
    job = Job.of("plain", recipe, tmp_path, experiment=Experiment(study.view))
    run = Run("plain", 0, "finished", 1, 0.1, "accuracy", recipe.to_dict(), {}, {}, asked={"view": "Rows(count=41)"})
    run.save(job.path)
    assert kept(job, {}, job.asked)[1].startswith(
        "plain-0.json is of another measurement (view 'Rows(count=41)', now 'Rows(count=40)')"
    )


def test_a_run_of_changed_code_is_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for network in ("mine.py:net", "mine:net"):
        (tmp_path / "mine.py").write_text("def net(recipe, data): ...")
        job = Job.of("plain", Recipe(network=network), tmp_path)
        Run("plain", 0, "finished", 1, 0.1, "accuracy", job.recipe.to_dict(), {}, {}, asked=job.asked).save(job.path)
        assert kept(job, {}, job.asked)[0] is not None
        (tmp_path / "mine.py").write_text("def net(recipe, data): return 1")
        assert kept(job, {}, job.asked)[1].startswith("plain-0.json is of another measurement (network 'mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all", "dropout"], "--all runs every study, and 'dropout' is one; leave one of them out"),
        (["--all", "--steps", "5"], "--all runs every study on its own terms and takes no recipe"),
        (["--all", "--data", "wine"], "--all runs every study on its own terms and takes no data"),
        (["dropout", "--arm", "mine", "--data", "wine"], "judges fixed claims and takes no arms"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["study", *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.stderr.replace("\n", " ")


def test_the_list_has_every_study_and_that_of_one_its_claims(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(cli.app, ["study", "--list"])
    assert result.exit_code == 0
    assert "dropout" in result.stdout
    result = CliRunner().invoke(cli.app, ["study", "learning-rate", "--list"])
    assert "Batch normalization allows higher learning rates." in result.stdout


def test_settings_of_one_study_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="takes no depths; run one by its name"):
        run_all(Settings(out=str(tmp_path), depths=(1,)), load=loads, watcher=Listener())
