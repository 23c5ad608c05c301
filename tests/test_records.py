"""Records: what is written comes back, and a failed write leaves what was there."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from pathlib import Path

import pytest

from levelhead.lessons import Answer, Row
from levelhead.records import Chart, Curve, Interval, Line, Run, environment, read_json, write_json

INF, NAN = math.inf, math.nan


def a_run(**changes: object) -> Run:
    fields = {
        "arm": "BN-x5",
        "seed": 3,
        "status": "diverged",
        "steps": 200,
        "seconds": 1.25,
        "metric": "accuracy",
        "recipe": {"normalization": "batch", "depth": 3, "clip": None, "nested": {"a": [1, 2]}},
        "data": {"name": "mnist5k", "sizes": {"train": 3500}},
        "curves": {"validation_score": Curve((0, 100, 200), (0.1, 0.95, NAN)), "train_loss": Curve((1,), (INF,))},
        "test_score": NAN,
        "message": "the loss is NaN at step 173",
        "environment": environment(),
    }
    return Run(**(fields | changes))


def an_answer() -> Answer:
    never = Interval(INF, 900.0, INF)
    row = Row("BN", {"depth": 3}, 5, 1, 0, 2, NAN, never, Interval(0.9, 0.8, 0.95), never)
    chart = Chart("Sweep", "rate", "score", (Line("a", (0.1, 1.0), (0.9, NAN), (0.8, -INF), (1.0, INF)),), log_x=True)
    return Answer(
        "s", "Which?", "So.", (), (row,), (chart,), (), {}, {"depth": 3}, {"name": "d"}, ("a.json",), ("n",), {"k": 1},
        target=0.9, baseline="plain",
    )  # fmt: skip


def same(a: object, b: object) -> bool:
    """Equality in which NaN equals NaN; ``repr`` of a float holds all of its digits."""
    return repr(a) == repr(b)


def test_a_run_comes_back_with_nan_and_infinity(tmp_path: Path) -> None:
    run = a_run()
    run.save(tmp_path / "deep" / "run.json")
    assert same(Run.load(tmp_path / "deep" / "run.json"), run)


def test_an_answer_comes_back_with_nan_and_infinity(tmp_path: Path) -> None:
    an_answer().save(tmp_path / "answer.json")
    assert same(Answer.load(tmp_path / "answer.json"), an_answer())


def test_files_are_strict_json(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    for name, record in (("run", a_run()), ("answer", an_answer())):
        record.save(tmp_path / name)
        json.loads((tmp_path / name).read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-300, -0.0, 2**53 + 1, "nän <&> \n \u2028", True, None, [], {}])
def test_values_come_back_exactly(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "v.json", {"value": value})
    assert same(read_json(tmp_path / "v.json"), {"value": value})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b'{"arm": "plain", "see', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[1, 2]", "list, not an object"),
        (b"{}", "does not hold a run"),
        (b'{"curves": 3, "test_score": 1}', "does not hold a run"),
        (b'{"curves": {"a": {"steps": [1], "values": []}}, "status": "failed"}', "1 steps, 0 values"),
        (b'{"curves": {"a": {"steps": [1], "values": ["x"]}}, "status": "failed"}', "could not convert"),
        (b'{"curves": {}, "test_score": 1, "status": "failed", "seconds": 1, "surplus": 2}', "surplus"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (
            b'{"curves": {}, "test_score": 1, "status": "weird"}',
            "status is 'weird', not one of finished, diver",
        ),
        (b'{"curves": {}, "test_score": 1, "status": ["failed"]}', "not one of finished"),
        (b'{"curves": {}, "test_score": 1, "status": "failed", "seed": true}', "seed is 'True', not of the type int"),
        (
            b'{"curves": {"a": {"steps": "ab", "values": [1, 2]}}, "status": "failed"}',
            "'ab', not of the type list",
        ),
        (
            b'{"curves": {"a": {"steps": [1.5], "values": [1]}}, "status": "failed"}',
            "'1.5', not of the type int",
        ),
        (b'{"curves": {"a": 3}, "status": "failed"}', "curves 'a' is '3', not of the type dict"),
        (b'{"curves": {"a": {"steps": [2, 1], "values": [1, 2]}}, "status": "failed"}', "ascending"),
    ],
)
def test_a_corrupt_run_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        Run.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["{}", '{"target": 1, "rows": [{"arm": "a"}], "charts": [], "runs": []}', '{"steps": "many"}']
)
def test_a_corrupt_answer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "answer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"answer\.json does not hold a study's answer"):
        Answer.load(tmp_path / "answer.json")


@pytest.mark.parametrize("where", ["fsync", "replace", "json"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "run.json"
    a_run().save(path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif where == "replace":
        monkeypatch.setattr(Path, "replace", full)
    recipe = {"unknown": object()} if where == "json" else {}
    with pytest.raises(TypeError if where == "json" else OSError):
        a_run(seed=9, recipe=recipe).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_noticed_before_the_old_file_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    a_run().save(path)
    before, new = path.read_bytes(), a_run(seed=9)
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r", **more: real(Path("/dev/full"), "wb", **more))
    with pytest.raises(OSError, match="No space left") as caught:
        new.save(path)
    assert caught.value.filename == str(path), "the one line that a user gets names the file"
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_a_record_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    a_run().save(tmp_path / "run.json")
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_a_curve_needs_a_value_a_step() -> None:
    with pytest.raises(ValueError, match="2 steps, 1 values"):
        Curve((0, 1), (0.5,))


def test_best_and_first_step_pass_over_nan() -> None:
    curve = Curve((0, 10, 20, 30), (NAN, 0.5, 0.9, 0.9))
    assert curve.best() == 0.9
    assert curve.first_step_at(0.9) == 20
    assert curve.first_step_at(0.91) is None
    assert math.isnan(Curve((0,), (NAN,)).best())


def test_the_environment_says_what_made_a_figure() -> None:
    made = environment()
    assert set(made) == {"versions", "machine", "command", "started"}
    assert made["versions"]["levelhead"] != "not installed"
    assert made["machine"]["cores"] == os.cpu_count()
