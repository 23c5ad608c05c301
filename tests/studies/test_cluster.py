"""Studies on a Ray cluster of two nodes: the same files as by local processes, resumed, and past a killed node."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from study_fakes import digits
from typer.testing import CliRunner

from levelhead import cli
from levelhead.records import Run
from levelhead.studies import Pool, Study, StudyError
from levelhead.studies.jobs import Job
from levelhead.studies.pool import Watcher
from levelhead.training import Recipe, train

RECIPE = Recipe(depth=1, width=8, steps=8, evaluate_every=4)
ARMS = {"plain": RECIPE, "BN": RECIPE.replace(normalization="batch")}


class Listener(Watcher):
    def __init__(self):
        self.said, self.fresh, self.reused = [], 0, 0

    def end(self, job, run, reused):
        self.reused += reused
        self.fresh += not reused

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # whence the nodes take this module
    from ray.cluster_utils import Cluster

    try:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
    except Exception as error:
        pytest.skip(f"Ray's nodes do not start here: {error}")
    yield made
    made.shutdown()


def study(**changes):
    return Study(**{"question": "?", "data": digits(), "arms": ARMS, "seeds": 3, **changes})


def curves(folder):
    return {path.name: Run.load(path).curves for path in sorted((folder / "runs").glob("*.json"))}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_cluster_of_two_nodes(cluster, tmp_path):
    local, far = tmp_path / "local", tmp_path / "far"
    answer = study().run(local, workers=1, watcher=Watcher())
    first, second = Listener(), Listener()
    where = {"engine": "ray", "address": cluster.address}
    other = study().run(far, watcher=first, **where)
    assert (first.fresh, first.reused) == (6, 0)
    assert curves(far) == curves(local)
    assert other.rows == answer.rows
    (far / "runs" / "BN-1.json").unlink()
    study().run(far, watcher=second, **where)
    assert (second.fresh, second.reused) == (1, 5), "it goes on from what is there"
    assert curves(far) == curves(local)
    # A killed worker, and then a killed node: what they were at is done again by those that are left.
    listener = Listener()
    options = {"folder": tmp_path, "second": cluster.list_all_nodes()[1].node_id}
    jobs = [Job.of("unlucky", RECIPE.replace(seed=seed), tmp_path / "unlucky") for seed in range(5)]
    with Pool(digits(), watcher=listener, train=unlucky, options=options, **where) as pool:
        runs = pool.run("runs", jobs)
    assert (tmp_path / "node").exists()
    assert [(run.status, run.message) for run in runs] == [("finished", "")] * 5
    assert len(listener.said) == 2
    assert all("It is tried again" in text for text in listener.said)


def unlucky(recipe, data, *, folder, second, progress, **options):
    """Seed 0 kills its worker, once; then a later one kills the second node's raylet; the others wait for that."""
    import ray

    worker, node = folder / "worker", folder / "node"
    if recipe.seed == 0 and not worker.exists():
        worker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if ray.get_runtime_context().get_node_id() == second and recipe.seed and not node.exists():
        node.touch()
        os.kill(os.getppid(), signal.SIGKILL)
    end = time.monotonic() + 60
    while not node.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return train(recipe, data, accelerator="cpu", **options)


def test_what_cannot_be_is_one_line(monkeypatch):
    for arguments, message in (
        (["--engine", "spark"], "engine = 'spark' is not one of local, ray"),
        (["--address", "here:1"], "address = 'here:1' is of a Ray cluster, and the engine is 'local'"),
    ):
        result = CliRunner().invoke(cli.app, ["study", "dropout", *arguments])
        assert (result.exit_code, message in result.output.replace("\n", " ")) == (2, True), result.output
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StudyError, match=r'needs Ray: pip install "levelhead\[ray\]"'):
        Pool(digits(), engine="ray")
