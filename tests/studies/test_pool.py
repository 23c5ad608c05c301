"""Runs in parallel: kept, resumed, and never lost with a worker or the parent."""

import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import study_fakes as fakes
from study_fakes import FakeData

from levelhead.allocator import _why_not
from levelhead.records import Run
from levelhead.studies import Study, StudyError
from levelhead.studies.jobs import Job, file_name, kept, locked
from levelhead.studies.pool import Pool, Watcher
from levelhead.training import Recipe


class Listener(Watcher):
    def __init__(self):
        self.said, self.fresh, self.reused = [], 0, 0

    def end(self, job, run, reused):
        self.reused += reused
        self.fresh += not reused

    def say(self, text):
        self.said.append(text)


def study(**changes):
    return Study(**{"question": "?", "data": FakeData(), "arms": fakes.RECIPES, "seeds": 3, **changes})


def table(answer):
    return repr([answer.rows, answer.target, answer.sentence, answer.runs, answer.charts])


def all_jobs(study, folder):
    return [study.job(folder)(arm, seed) for arm in study.arms for seed in range(3)]


def test_a_study_makes_every_run_and_a_second_start_takes_them_as_they_are(tmp_path):
    first, second = Listener(), Listener()
    answer = study().run(tmp_path, workers=2, watcher=first, train=fakes.train)
    assert [row.arm for row in answer.rows] == ["plain", "BN"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(
        f"{arm}-{seed}.json" for arm in fakes.RECIPES for seed in range(3)
    )
    assert (first.fresh, first.reused) == (6, 0)
    assert answer.rows[1].speedup.value > 1
    again = study().run(tmp_path, workers=2, watcher=second, train=fakes.train)
    assert (second.fresh, second.reused) == (0, 6)
    assert table(again) == table(answer)


def test_runs_of_another_recipe_or_data_or_that_are_damaged_are_made_again_and_it_is_said(tmp_path):
    study().run(tmp_path, workers=1, train=fakes.train)
    listener = Listener()
    (tmp_path / "runs" / "plain-0.json").write_text('{"arm": "plai')
    faster = {**fakes.RECIPES, "BN": fakes.RECIPES["BN"].replace(learning_rate=0.5)}
    study(arms=faster).run(tmp_path, workers=1, watcher=listener, train=fakes.train)
    assert (listener.fresh, listener.reused) == (4, 2)
    assert "plain-0.json is damaged" in listener.said[0]
    assert "BN-0.json is of another recipe (learning_rate 0.1, now 0.5)" in listener.said[1]
    other = Listener()
    study(arms=faster, data=FakeData(size=11)).run(tmp_path, workers=1, watcher=other, train=fakes.train)
    assert (other.fresh, len(other.said)) == (6, 6)
    assert "is of another data (checksum " in other.said[0]


def test_runs_of_a_training_function_that_changed_are_made_again(tmp_path, monkeypatch):
    source = (
        "from study_fakes import train as inner\n\n\ndef train(*args, **options):\n    return inner(*args, **options)\n"
    )
    (tmp_path / "own_training.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("own_training")
    counts = []
    for change in ("", "", "# mended"):
        (tmp_path / "own_training.py").write_text(source + change)
        listener = Listener()
        study().run(tmp_path, workers=1, watcher=listener, train=own.train)
        counts.append((listener.fresh, listener.reused))
    assert counts == [(6, 0), (0, 6), (6, 0)]
    assert "is of another measurement (train 'train of own_training " in listener.said[0]
    study().run(tmp_path, workers=1, watcher=(other := Listener()), train=partial(own.train, odd=1))
    assert other.fresh == 6, "an argument counts as code does"


def test_a_run_that_raises_is_a_failed_run_and_the_study_goes_on(tmp_path, monkeypatch):
    arms = {**fakes.RECIPES, "odd": fakes.RECIPES["plain"].replace(activation="sigmoid")}
    answer = study(arms=arms).run(tmp_path, workers=2, train=fakes.raises_for_sigmoid)
    assert [(row.failed, row.reached > 0) for row in answer.rows] == [(0, True), (0, True), (3, False)]
    assert Run.load(tmp_path / "runs" / "odd-0.json").message == "RuntimeError: the network of the user"
    assert any("odd, seed 0: RuntimeError" in note for note in answer.notes)
    listener = Listener()
    monkeypatch.setenv("FAKE_HEALED", "1")
    healed = study(arms=arms).run(tmp_path, workers=2, watcher=listener, train=fakes.raises_for_sigmoid)
    assert (listener.fresh, healed.rows[2].failed) == (3, 0), "a failed run is made again"


@pytest.mark.skipif(_why_not() is not None, reason="glibc's malloc is not in use")
def test_workers_keep_freed_memory(tmp_path):
    with pytest.raises(StudyError, match="no run of the baseline"):
        study(seeds=3, arms={"plain": fakes.RECIPES["plain"]}).run(tmp_path, workers=1, train=fakes.counts_page_faults)
    _, faults = Run.load(tmp_path / "runs" / "plain-0.json").message.split(": ")
    assert int(faults) < 500  # fresh pages would be 9766


def test_no_baseline_no_target(tmp_path):
    arms = {"odd": fakes.RECIPES["plain"].replace(activation="sigmoid")}
    with pytest.raises(StudyError, match=r"no run of the baseline 'odd' has a score: RuntimeError: the network"):
        study(arms=arms).run(tmp_path, workers=1, train=fakes.raises_for_sigmoid)


def test_a_killed_worker_costs_nothing_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    listener = Listener()
    answer = study().run(tmp_path, workers=2, watcher=listener, train=fakes.kills_itself_once)
    assert (tmp_path / "mark").exists()
    assert [row.failed for row in answer.rows] == [0, 0]
    assert "exit status -9" in listener.said[0]


def test_a_worker_that_is_always_killed_gives_a_failed_run(tmp_path):
    answer = study().run(tmp_path, workers=2, train=fakes.kills_itself_always)
    assert [(row.runs, row.failed) for row in answer.rows] == [(3, 1), (3, 1)]
    assert "was killed (exit status -9)" in Run.load(tmp_path / "runs" / "BN-1.json").message


def test_a_full_disk_stops_with_what_is_kept(tmp_path):
    jobs = all_jobs(study(), tmp_path)
    (tmp_path / "runs").mkdir()
    jobs[-1] = replace(jobs[-1], path=Path("/dev/full/x.json"))  # cannot be written, as on a full disk
    with (
        Pool(FakeData(), workers=1, train=fakes.train) as pool,
        pytest.raises(StudyError, match=r"runs are kept: make"),
    ):
        pool.run("runs", jobs)
    assert len(list((tmp_path / "runs").iterdir())) == 5


def test_two_studies_do_not_share_a_folder(tmp_path):
    with locked(tmp_path), pytest.raises(StudyError, match="another study is running in"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_left_overs_of_killed_writers_are_removed(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".plain-0.json.abc").touch()
    with locked(tmp_path):
        assert not list((tmp_path / "runs").iterdir())


def test_names_of_arms_are_safe_and_distinct_as_files(tmp_path):
    names = [file_name(name) for name in ("a/b", "a_b", "a b", "../x", "", "é" * 300, "con:1")]
    assert len(set(names)) == len(names)
    assert all(name and "/" not in name and not name.startswith(".") and len(name) < 100 for name in names)
    job = Job.of("../x", fakes.RECIPES["plain"], tmp_path)
    assert job.path.parent == tmp_path / "runs"
    assert kept(job, {}, {}) == (None, "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {}}, "at least one arm"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": [1, 1]}, "each once"),
        ({"arms": {**fakes.RECIPES, "long": fakes.RECIPES["BN"].replace(steps=50)}}, "the same steps"),
    ],
)
def test_a_study_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        study(**changes)


def test_at_least_one_worker():
    with pytest.raises(ValueError, match="at least one worker, got workers=0"):
        Pool(FakeData(), workers=0)


def start(out, *more):
    command = [sys.executable, fakes.__file__, str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def gone(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.slow
def test_killed_at_five_moments_a_study_comes_to_the_same_table(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(whole, "train").communicate(timeout=120)[0] == "complete\n"
    total = len(list((whole / "runs").iterdir()))
    for share in (0.05, 0.3, 0.5, 0.75, 0.95):
        process = start(broken)
        until(lambda share=share: len(list(broken.glob("runs/*.json"))) >= share * total)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (broken / "answer.json").exists()
    found = len(list(broken.glob("runs/*.json")))
    out, err = start(broken).communicate(timeout=120)
    assert out == "complete\n", err
    assert err.count("best accuracy") == total - found, "only the unfinished runs are made"
    answers = [json.loads((folder / "answer.json").read_text()) for folder in (whole, broken)]
    for answer in answers:
        answer.pop("environment")
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_workers_die_with_their_parent(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    process = start(tmp_path, "never_ends")
    until(lambda: len(list(tmp_path.glob("mark.*"))) == 2)
    pids = [int(path.suffix[1:]) for path in tmp_path.glob("mark.*")]
    assert not any(gone(pid) for pid in pids)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: all(gone(pid) for pid in pids), 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "nosuchmodule:net"}, "No module named 'nosuchmodule'"),
        ({"network": "study_fakes:crooked"}, "study_fakes:crooked' fails on an input of shape"),
        ({"batch_size": 100_000}, r"batch_size = 100000 is more than the \d+ training rows"),
    ],
)
def test_what_cannot_run_is_told_once_before_any_worker_starts(fields, message, tmp_path):
    arms = {"plain": fakes.RECIPES["plain"], "odd": fakes.RECIPES["plain"].replace(**fields)}
    many = study(data=fakes.digits(), arms=arms)
    with Pool(fakes.digits(), workers=2) as pool:
        with pytest.raises(StudyError, match=f"arm 'odd': .*{message}.*; nothing was run"):
            pool.run("runs", all_jobs(many, tmp_path))
        assert not pool._workers
    assert not (tmp_path / "runs").exists()


def test_two_arms_that_are_the_same_show_no_difference(tmp_path):
    """A/A, with real runs: the same recipe and seeds under two names."""
    recipe = Recipe(depth=1, width=16, steps=60, evaluate_every=5, learning_rate=0.3)
    answer = study(data=fakes.digits(), arms={"one": recipe, "other": recipe}).run(tmp_path, workers=2)
    one, other = answer.rows
    assert (one.steps, one.best, one.reached) == (other.steps, other.best, other.reached)
    assert other.speedup.low < 1 < other.speedup.high
    assert all(effect == 1 or math.isnan(effect) for effect in other.verdict.effects), "where both missed, nothing"
    assert other.verdict.ruling in ("no difference", "not decided")
    assert other.verdict.correlation == pytest.approx(1) or math.isnan(other.verdict.correlation)
    assert answer.sentence.startswith(("No difference beyond a factor of 1.1", "Not decided"))
    assert 0.08 < answer.chance < 0.13, "ten classes"
