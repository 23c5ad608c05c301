"""Two processes under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_samples import images, small

from levelhead.records import Run
from levelhead.training import train

HERE = Path(__file__).parent


def launch(folder, changes, stop=0):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(HERE / "distributed_run.py"), str(folder), json.dumps(changes), str(stop)]
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    # No dropout, which draws other noise on two processes; batch normalization sees the whole batch on each.
    changes = {"normalization": "batch", "momentum": 0.9, "weight_decay": 1e-3, "learning_rate": 0.05}
    launch(tmp_path, changes)
    one = train(small(**changes), images(), folder=tmp_path / "one", accelerator="cpu")
    both = [load_file(tmp_path / f"whole-{rank}.safetensors") for rank in range(2)]
    alone = load_file(tmp_path / "one" / "model.safetensors")
    for name, weights in alone.items():
        assert torch.equal(both[0][name], both[1][name])
        # The mean of two half batches is rounded otherwise than that of the whole, 60 times over.
        torch.testing.assert_close(both[0][name], weights, rtol=1e-4, atol=1e-5)
    runs = [Run.load(tmp_path / f"whole-{rank}.json") for rank in range(2)]
    assert runs[0].curves == runs[1].curves
    assert runs[0].environment["training"]["processes"] == 2
    assert runs[0].score.values == pytest.approx(one.score.values)
    assert runs[0].curves["train_loss"].values == pytest.approx(one.curves["train_loss"].values, rel=1e-4)
    assert runs[0].test_score == pytest.approx(one.test_score)


@pytest.mark.slow
def test_two_processes_resume_exactly_and_agree_on_running_statistics(tmp_path):
    launch(tmp_path, {"normalization": "batch", "dropout": 0.3, "optimizer": "adam", "learning_rate": 0.01}, stop=40)
    ends = [load_file(tmp_path / f"{name}-{rank}.safetensors") for name in ("whole", "part") for rank in range(2)]
    assert "hidden1.before.running_mean" in ends[0]
    for end in ends[1:]:
        assert [name for name in end if not torch.equal(end[name], ends[0][name])] == []
    whole, part = (Run.load(tmp_path / f"{name}-0.json") for name in ("whole", "part"))
    assert whole.curves == part.curves
    assert whole.test_score == part.test_score
