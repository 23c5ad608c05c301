"""A run that was stopped at any point ends with the same bits as one that was not."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_samples import STATEFUL, classes, images, numbers, small

from levelhead.training import train
from levelhead.training.checkpoints import CURRENT, PREVIOUS, CheckpointError
from levelhead.training.checkpoints import load as load_checkpoint

#: A run that kills itself: at a step, or while it writes its n-th file.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from training_samples import STATEFUL, images, small
from levelhead.training import train
torch.set_num_threads(1)
folder, kind, step, file = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
written, fsync = 0, os.fsync
def last_words(handle):
    global written
    written += 1
    if written == file:
        os.truncate(handle, 1000)
        die()
    fsync(handle)
os.fsync = last_words
train(small(**STATEFUL[kind]), images(), folder=folder, accelerator="cpu", progress=lambda n, _: n >= step and die())
"""


class Stop(Exception):
    pass


def stop_at(step):
    def progress(done, _):
        if done >= step:
            raise Stop

    return progress


def fit(recipe, data, folder, **options):
    return train(recipe, data, folder=folder, accelerator="cpu", **options)


def assert_same_end(run, folder, whole, whole_folder):
    weights, wanted = (load_file(f / "model.safetensors") for f in (folder, whole_folder))
    assert list(weights) == list(wanted)
    assert [name for name in wanted if not torch.equal(weights[name], wanted[name])] == []
    assert run.seconds > 0
    assert dataclasses.replace(run, seconds=0, environment={}) == dataclasses.replace(whole, seconds=0, environment={})


@pytest.mark.parametrize("kind", STATEFUL)
def test_stopped_twice(kind, tmp_path):
    recipe = small(**STATEFUL[kind])
    whole = fit(recipe, images(), tmp_path / "whole")
    for step in (20, 40):  # behind the checkpoints of steps 15 and 30, and behind an evaluation
        with pytest.raises(Stop):
            fit(recipe, images(), tmp_path / "part", progress=stop_at(step))
    assert_same_end(fit(recipe, images(), tmp_path / "part"), tmp_path / "part", whole, tmp_path / "whole")


def test_what_ends_a_run_early_is_remembered(tmp_path):
    recipe = small(steps=1000, patience=4, learning_rate=1e-12)
    whole = fit(recipe, classes(), tmp_path / "whole")
    assert whole.steps == 80
    with pytest.raises(Stop):
        fit(recipe, classes(), tmp_path / "part", progress=stop_at(60))
    assert_same_end(fit(recipe, classes(), tmp_path / "part"), tmp_path / "part", whole, tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_steps_and_in_the_middle_of_writing(tmp_path):
    kind = "batch norm, adam, dropout"
    recipe = small(**STATEFUL[kind])
    whole = fit(recipe, images(), tmp_path / "whole")
    part = tmp_path / "part"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    # At step 20; while the checkpoint of step 30 is written; while the last is, behind 30, 45 and the final weights.
    for step, file in ((20, 0), (1000, 1), (1000, 4)):
        command = [sys.executable, "-c", SCRIPT, str(part), kind, str(step), str(file)]
        killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_same_end(fit(recipe, images(), part), part, whole, tmp_path / "whole")


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "one bit":
        content[-100] ^= 1
    else:
        content = bytearray()
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "one bit", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(how, tmp_path):
    recipe = small(normalization="batch")
    whole = fit(recipe, classes(), tmp_path / "whole")
    part = tmp_path / "part"
    with pytest.raises(Stop):
        fit(recipe, classes(), part, progress=stop_at(45))
    damage(part / CURRENT, how)
    with pytest.warns(RuntimeWarning, match=rf"{CURRENT} is damaged .*; going on from {PREVIOUS}"):
        run = fit(recipe, classes(), part)
    assert_same_end(run, part, whole, tmp_path / "whole")


def test_nothing_but_damaged_checkpoints_is_one_clear_line(tmp_path):
    with pytest.raises(Stop):
        fit(small(), classes(), tmp_path, progress=stop_at(45))
    damage(tmp_path / CURRENT, "cut")
    damage(tmp_path / PREVIOUS, "one bit")
    with pytest.raises(CheckpointError, match=rf"^.*{CURRENT} is damaged \(.*\); delete .* to start this run afresh$"):
        fit(small(), classes(), tmp_path)


@pytest.mark.parametrize(
    ("recipe", "data", "words"),
    [
        (small(learning_rate=0.2), classes(), "learning_rate is 0.1 there and 0.2 here;"),
        (small(), classes(seed=1), "the data's checksum is"),
        (small(), numbers(), "the data's checksum is"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(recipe, data, words, tmp_path):
    fit(small(), classes(), tmp_path)
    with pytest.raises(CheckpointError, match=rf"{tmp_path} holds a checkpoint of another run: {words}"):
        fit(recipe, data, tmp_path)


def test_a_checkpoint_of_an_earlier_format_is_one_clear_line(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr("levelhead.training.checkpoints._FORMAT", "levelhead checkpoint 1")
        with pytest.raises(Stop):
            fit(small(), classes(), tmp_path, progress=stop_at(45))
    with pytest.raises(CheckpointError, match=r"is not a levelhead checkpoint 3 .*'levelhead checkpoint 1'\); delete"):
        fit(small(), classes(), tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    recipe = small()
    whole = fit(recipe, classes(), tmp_path / "whole")
    part = tmp_path / "part"
    with pytest.raises(Stop):
        fit(recipe, classes(), part, progress=stop_at(20))

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            fit(recipe, classes(), part)
    assert [path for path in part.iterdir() if path.name.startswith(".")] == []
    assert_same_end(fit(recipe, classes(), part), part, whole, tmp_path / "whole")


@pytest.mark.parametrize("name", [CURRENT, PREVIOUS])
def test_a_checkpoint_that_is_a_folder_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=rf"{name} is a folder; delete"):
        load_checkpoint(tmp_path)
