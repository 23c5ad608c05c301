"""Every study of claims, from its arms to its verdicts and its page, at toy sizes and without processes."""

from dataclasses import replace

import pytest
import torch
from study_fakes import digits

from levelhead.data import Split
from levelhead.lessons import Answer
from levelhead.records import Curve, Run
from levelhead.report import write
from levelhead.studies import LECTURES, Settings, SettingsError, StudyError, find
from levelhead.studies.frame import Arm, Lecture
from levelhead.studies.jobs import described
from levelhead.studies.views import Rows
from levelhead.studies.workers import Package

#: Small enough that a study takes a second or two; the figures mean nothing.
TOY = {"steps": 4, "evaluate_every": 2}
NAMES = [name for name in LECTURES if name != "batch-norm"]


class Inline:
    """A pool that makes its runs here, and keeps them as a pool does."""

    def __init__(self, data):
        self.data, self.titles = data, []

    def run(self, title, jobs):
        self.titles.append(title)
        package = Package(self.data, described(self.data), options={"accelerator": "cpu"})
        for job in jobs:
            run = package.make([job], lambda done, of: None)[0]
            replace(run, asked=package.asked(job)).save(job.path)
        return [Run.load(job.path) for job in jobs]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_study_comes_to_verdicts(name, tmp_path):
    study = find(name)
    settings = Settings(study=name, seeds=2, quick=True, recipe=TOY)
    answer = study.run(settings, digits(), Inline(digits()), tmp_path)
    assert answer.study == name
    assert [verdict.claim for verdict in answer.verdicts] == [
        claim.text.format(metric="accuracy") for claim in study.claims
    ]
    assert all(len(verdict.effects) == 2 for verdict in answer.verdicts)
    arms = study.quick_arms or study.arms
    assert set(answer.arms) == set(arms)
    assert len(answer.runs) == 2 * len(arms)
    runs = [Run.load(tmp_path / path) for path in answer.runs]
    assert not [run.message for run in runs if run.status == "failed"]
    assert sum(len(chart.lines) > 0 for chart in answer.charts) == len(answer.charts) >= 1
    answer.save(tmp_path / "answer.json")
    Answer.load(tmp_path / "answer.json").save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "answer.json").read_text()
    page = write(tmp_path).read_text(encoding="utf-8")
    assert all(plot in page for plot in (f'id="{name}-1-plot"', f'id="{name}-title"'))


class Scored:
    """A pool whose runs are two scores by the data's measure, and nothing else."""

    def __init__(self, data):
        self.data = data

    def run(self, title, jobs):
        for job in jobs:
            seed, steps = job.recipe.seed, job.recipe.steps
            metric = job.experiment.seen(self.data, seed).metric
            curves = {f"{part}_score": Curve((0, steps), (0.5, 0.9)) for part in ("train", "validation")}
            fields = (metric, job.recipe.to_dict(), described(self.data), curves, 0.9)
            Run(job.arm, seed, "finished", steps, 1.0, *fields).save(job.path)
        return [Run.load(job.path) for job in jobs]


def skewed(data):
    """Nine of ten rows of each split of one class."""
    parts = {
        name: Split(split.inputs, torch.where(torch.arange(len(split)) % 10 > 0, 0, split.targets))
        for name in ("train", "validation", "test")
        for split in [getattr(data, name)]
    }
    return replace(data, **parts)


@pytest.mark.parametrize("name", LECTURES)
def test_on_skewed_classes_everything_names_the_balanced_accuracy(name, tmp_path):
    said = {}
    for metric, data in (("accuracy", digits()), ("balanced accuracy", skewed(digits()))):
        settings = Settings(study=name, seeds=2)
        answer = find(name).run(settings, data, Scored(data), folder := tmp_path / metric)
        answer.save(folder / "answer.json")
        said[metric] = " ".join((write(folder).read_text(encoding="utf-8") + str(answer)).lower().split())
    bare = said["balanced accuracy"].replace("balanced accuracy", "")
    assert "accuracy" not in bare
    assert "{metric}" not in bare
    assert said["accuracy"].count("accuracy") <= said["balanced accuracy"].count("balanced accuracy")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_claim_needs_is_fixed_before_the_runs(name):
    study = find(name)
    assert study.name == name
    assert set(study.quick_arms) <= set(study.arms)
    assert len({claim.text for claim in study.claims}) == len(study.claims) >= 1
    for claim in study.claims:
        assert claim.source
        assert claim.text.endswith((".", "sigmoids.", "ReLU."))
        assert claim.unit != "times" or claim.threshold > 0


def toy(**changes):
    fields = {
        "name": "toy",
        "QUESTION": "Is it so?",
        "setting": "A toy.",
        "arms": {"a": Arm({}, Rows(30)), "b": Arm({"learning_rate": 0.5}, rates=(0.1, 0.2))},
        "claims": (),
        "draw": lambda samples: [],
        "recipe": {"depth": 1, "width": 4, "batch_size": 10, **TOY},
    }
    return Lecture(**fields | changes)


def test_an_arm_takes_the_learning_rate_of_its_sweep(tmp_path):
    pool = Inline(digits())
    answer = toy(target=0.01).run(Settings(study="toy", seeds=1), digits(), pool, tmp_path)
    assert pool.titles[0] == "toy: sweep"
    assert pool.titles[-1] == "toy"
    assert "Learning rate and initialization are those with the fewest steps" in " ".join(answer.notes)
    assert answer.arms["a"] == {"view": "Rows(count=30)"}
    assert answer.setting.startswith("An MLP of 1 hidden layers of 4 relu units on digits")
    assert Run.load(tmp_path / "runs/a-0.json").asked == {"view": "Rows(count=30)"}


def test_the_settings_of_a_study_of_claims_are_fixed(tmp_path):
    with pytest.raises(SettingsError, match=r"the study 'toy' judges fixed claims and takes no depths"):
        toy().run(Settings(study="toy", depths=(1,)), digits(), Inline(digits()), tmp_path)


def test_an_arm_of_which_all_runs_fail_is_named(tmp_path):
    class Failing(Inline):
        def run(self, title, jobs):
            from levelhead.studies.jobs import failed

            return [failed(job, {"task": "classification"}, "RuntimeError: no") for job in jobs]

    with pytest.raises(StudyError, match=r"every run of the arm 'a' failed: RuntimeError: no"):
        toy(arms={"a": Arm()}).run(Settings(study="toy"), digits(), Failing(digits()), tmp_path)
