"""A stranger's script, watched: it runs as Python runs it, and what it trains is seen by itself."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from levelhead.doctor import ProgramError
from levelhead.doctor.script import Script, watch_script
from levelhead.doctor.script.rows import Rows

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
ALIKE = """
import os, sys
from pathlib import Path
print(sys.argv[1:], __name__, Path(__file__).name, os.getcwd(), Path(sys.path[0]).resolve())
print("to standard error", file=sys.stderr)
import __main__
assert __main__.answer is None if hasattr(__main__, "answer") else True
answer = 42
assert __main__.answer == 42 and sys.modules["__main__"].__dict__ is globals()
"""


def python(*arguments, cwd):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        check=False,
        timeout=120,
    )


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Runs the text of a script under a watch; its exit status and the watches."""
    monkeypatch.chdir(tmp_path)

    def run(text, *arguments):
        path = tmp_path / "train.py"
        path.write_text("import torch\nfrom torch import nn\nimport torch.nn.functional as F\n" + textwrap.dedent(text))
        return watch_script(Script(str(path), arguments))

    return run


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "sys.exit('said')", "raise KeyError('gone')"])
@pytest.mark.parametrize("module", [False, True])
def test_a_script_runs_as_python_runs_it(tmp_path, ending, module):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "train.py").write_text(ALIKE + ending)
    what = ["-m", "pack.train"] if module else ["pack/train.py"]
    plain = python(*what, "--lr", "0.1", cwd=tmp_path)
    ours = python("-m", "levelhead", "watch", *what, "--", "--lr", "0.1", cwd=tmp_path)
    assert ours.stdout == plain.stdout
    assert ours.returncode == plain.returncode
    said = [line for line in plain.stderr.splitlines() if "runpy" not in line and "_run_" not in line]
    assert all(line in ours.stderr for line in said)
    assert "site-packages" not in ours.stderr
    assert "script/run.py" not in ours.stderr


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("none.py", "no such file"),
        ("bad.py", "bad.py, line 1"),
        ("good.py:build", "good.py builds no levelhead.Program"),
    ],
)
def test_what_cannot_be_run_is_one_line(tmp_path, what, said):
    (tmp_path / "bad.py").write_text("def f(:\n")
    (tmp_path / "good.py").write_text("")
    found = python("-m", "levelhead", "watch", what, cwd=tmp_path)
    assert found.returncode == 2
    assert said in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_no_such_module():
    with pytest.raises(ProgramError, match="no such module"):
        watch_script(Script("levelhead_has_no_such_module", module=True))


LOOP = """
torch.manual_seed(0)
x = torch.randn(200, 4)
y = (x[:, 0] > 0).long()
def train(model, optimizer, steps=40):
    for i in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
"""


def test_a_loop_is_seen_with_its_validation(watched):
    status, (found,) = watched(
        LOOP + "model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))\n"
        "o = torch.optim.SGD(model.parameters(), 1.0)\nfor _ in range(3):\n    train(model, o)\n    model.eval()\n"
        "    with torch.no_grad():\n        F.cross_entropy(model(x), y)\n    model.train()\n"
    )
    assert status == 0
    assert found.measured["steps"] == 120
    (loss,) = [chart for chart in found.charts if chart.title == "Loss"]
    training, validation = loss.lines
    assert len(training.y) == 120
    assert validation.x == (40.0, 80.0, 120.0)
    assert validation.y[0] == pytest.approx(training.y[40], rel=1e-5)  # the same rows, the same weights
    assert found.healthy


def test_a_fault_is_told_as_it_shows(watched, capsys):
    status, (found,) = watched(
        LOOP + "model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))\n"
        "train(model, torch.optim.SGD(model.parameters(), lr=1e5))\nprint('the end')\nraise SystemExit(7)"
    )
    assert status == 7
    assert found.findings[0].cause == "learning-rate-too-high"
    captured = capsys.readouterr()
    assert "LH601 learning-rate-too-high" in captured.err
    assert captured.out == "the end\n"


def test_two_networks_with_an_optimizer_each_are_two(watched):
    _, found = watched(
        """
        g, d = nn.Linear(2, 2), nn.Linear(2, 1)
        og, od = torch.optim.SGD(g.parameters(), 0.01), torch.optim.SGD(d.parameters(), 0.01)
        for _ in range(20):
            fake = g(torch.randn(8, 2))
            od.zero_grad(); d(fake.detach()).mean().backward(); od.step()
            og.zero_grad(); (-d(fake).mean()).backward(); og.step()
        """
    )
    assert [e.measured["steps"] for e in found] == [20, 20]
    assert not any(f.cause == "gradients-accumulate" for e in found for f in e.findings)


def test_parts_that_are_trained_together_have_the_scripts_names(watched):
    _, (found,) = watched(
        LOOP + "class T:\n    def __init__(self):\n        self.enc, self.dec = nn.Linear(4, 8), nn.Linear(8, 2)\n"
        "        self.o = torch.optim.SGD([*self.enc.parameters(), *self.dec.parameters()], 0.1)\n"
        "    def fit(self):\n        train(lambda x: self.dec(self.enc(x)), self.o)\n"
        "T().fit()\n"
    )
    assert found.measured["steps"] == 40
    assert [(f.cause, f.where) for f in found.findings][:1] == [("missing-nonlinearity", "enc")]


def test_a_new_head_of_another_optimizer_is_not_missed_in_the_first(watched):
    _, found = watched(
        LOOP + "model = nn.ModuleDict({'body': nn.Linear(4, 8), 'head': nn.Linear(8, 2)})\n"
        "def net(x):\n    return model['head'](torch.relu(model['body'](x)))\n"
        "train(net, torch.optim.SGD(model.parameters(), 0.1))\n"
        "for p in model['body'].parameters():\n    p.requires_grad = False\n"
        "model['head'] = nn.Linear(8, 2)\n"
        "train(net, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1))\n"
    )
    assert [e.measured["steps"] for e in found] == [40, 40]
    assert not any(f.cause == "parameters-not-trained" for e in found for f in e.findings)


def test_tensors_without_a_module_are_seen(watched):
    _, (found,) = watched(
        LOOP + "w = torch.zeros(4, 2, requires_grad=True)\ntrain(lambda x: x @ w, torch.optim.SGD([w], 0.1))\n"
    )
    assert found.measured["steps"] == 40
    assert {line.name for c in found.charts if c.title == "Gradients by layer" for line in c.lines} == {"w"}


def test_gradients_of_a_closure_are_measured(watched):
    _, (found,) = watched(
        LOOP + "model = nn.Linear(4, 2)\no = torch.optim.LBFGS(model.parameters(), max_iter=4)\n"
        "def closure():\n    o.zero_grad()\n    loss = F.cross_entropy(model(x), y)\n    loss.backward()\n"
        "    return loss\nfor _ in range(10):\n    o.step(closure)\n"
    )
    assert {line.name for c in found.charts if c.title == "Gradients by layer" for line in c.lines} == {"weight"}


def test_a_scaled_loss_is_told_as_it_was(watched):
    _, (found,) = watched(
        LOOP + "model = nn.Linear(4, 2)\no = torch.optim.SGD(model.parameters(), 0.1)\n"
        "scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)\nfor _ in range(20):\n    o.zero_grad()\n"
        "    scaler.scale(F.cross_entropy(model(x), y)).backward()\n    scaler.step(o)\n    scaler.update()\n"
    )
    assert found.measured["first loss"] < 2


def test_nothing_of_a_watch_is_left(watched):
    def wrapped():
        return torch.Tensor.backward, torch.Tensor.item, torch.optim.Optimizer.__init__, nn.functional.cross_entropy

    kept = wrapped()
    watched(LOOP + "model = nn.Linear(4, 2)\ntrain(model, torch.optim.SGD(model.parameters(), 0.1))\n")
    assert kept == wrapped()
    assert not nn.modules.module._global_forward_pre_hooks


ADVERSARIAL = """
makes, judges = nn.Linear(2, 3), nn.Linear(3, 1)
one = torch.optim.Adam(makes.parameters())
two = torch.optim.Adam(judges.parameters())
for _ in range(20):
    made = makes(torch.randn(8, 2))HERE
    two.zero_grad()
    (F.softplus(judges(made.detach())) + F.softplus(-judges(torch.randn(8, 3)))).mean().backward()
    two.step()
    one.zero_grad()
    F.softplus(-judges(made)).mean().backward()
    one.step()
"""


@pytest.mark.parametrize(("here", "expected"), [("", []), (".detach()", ["loss-detached"])])
def test_a_generator_that_is_cut_off_from_its_judge(watched, here, expected):
    _, seen = watched(ADVERSARIAL.replace("HERE", here))
    assert [f.cause for each in seen for f in each.findings if f.severity == "critical"] == expected


QUANTITY = """
torch.manual_seed(0)
x = torch.randn(256, 4)
y = x[:, 0] - x[:, 1]
model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
o = torch.optim.Adam(model.parameters(), 1e-2)
for i in range(40):
    o.zero_grad()
    F.mse_loss(ANSWER, y).backward()
    o.step()
"""
OWN = QUANTITY.replace("F.mse_loss(ANSWER, y)", "(ANSWER - y).square().mean()")
CLASSES = """
torch.manual_seed(0)
y = torch.arange(4).repeat_interleave(80)
x = F.one_hot(y, 4) + 0.3 * torch.randn(320, 4)
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
o = torch.optim.SGD(model.parameters(), 0.5)
for epoch in range(3):
    for i in ORDER.split(20):
        o.zero_grad()
        F.cross_entropy(model(x[i]), y[i]).backward()
        o.step()
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (QUANTITY.replace("ANSWER", "model(x).squeeze(1)"), []),
        (QUANTITY.replace("ANSWER", "model(x).relu().squeeze(1)"), [("output-mismatch", "2", "critical")]),
        (QUANTITY.replace("ANSWER", "model(x)"), [("loss-broadcast", "loss", "critical")]),
        (OWN.replace("ANSWER", "model(x).squeeze(1)"), []),
        (OWN.replace("ANSWER", "model(x).relu().squeeze(1)"), [("output-mismatch", "2", "critical")]),
        (OWN.replace("ANSWER", "model(x)"), [("loss-broadcast", "loss", "critical")]),
        (CLASSES.replace("ORDER", "torch.randperm(320)"), []),
        (CLASSES.replace("ORDER", "torch.arange(320)"), [("no-shuffle", "data", "critical")]),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_what_the_losses_of_a_script_compare(watched, text, expected):
    _, (found,) = watched(text)
    assert [(f.cause, f.where, f.severity) for f in found.findings if f.severity != "info"] == expected


def test_places_in_a_batch_are_no_classes():
    x, rows = torch.randn(32, 4), Rows()
    for targets, kept in ((torch.arange(32), 0), (torch.arange(32).roll(16), 0), (torch.arange(32) % 4, 1)):
        rows.entered = x
        rows.compare(targets)
        assert len(rows.batches) == kept
    assert rows.data().counts == {0: 8, 1: 8, 2: 8, 3: 8}
