"""A stranger's script, run again with one change at a time: in scratch copies, cut off, compared with its own noise."""

import json
import math
import subprocess
import sys
import textwrap
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch

from levelhead.doctor import ProgramError, command, remedies
from levelhead.doctor.comparison import gain
from levelhead.doctor.evidence import Unchanged
from levelhead.doctor.remedies import learning_rate, mismatched, penalty_lightened, without_schedule
from levelhead.doctor.rules.optimization import CONSTANT, higher_rates, lower_rates
from levelhead.doctor.script import Script, child
from levelhead.doctor.script.again import Runs
from levelhead.doctor.script.examined import SHARE, _checked, examine_script
from levelhead.doctor.script.measure import Measure, Ran, measure
from levelhead.doctor.script.patch import patch
from levelhead.doctor.script.reruns import Reruns
from levelhead.doctor.search import Search

LOOP = """
import torch
from torch import nn
import torch.nn.functional as F

x = torch.randn(300, 4)
y = (x[:, 0] + x[:, 1] > 0).long() + (x[:, 2] > 1).long()
model = nn.Sequential(
    nn.Linear(4, 16),
    nn.ReLU(),
    nn.Linear(16, 3),
    {end}
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for i in range(80):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x[:200]), y[:200])
    loss.backward()
    optimizer.step()
    if i % 20 == 19:
        with torch.no_grad():
            F.cross_entropy(model(x[200:]), y[200:])
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Writes a script into a folder of its own, which is then the working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(text, end=""):
        (folder / "train.py").write_text(textwrap.dedent(text).replace("{end}", end))
        return Script("train.py")

    return write


@pytest.mark.parametrize(
    ("before", "after", "floor", "expected"),
    [
        (-2.0, -1.0, -3.0, 0.5),  # half of the way from -3 to -1 was not gone
        (-3.5, -1.0, -3.0, 1.0),  # worse than a constant answer: all of it
        (-1.0, -2.0, -3.0, 0.0),
        (-1.0, -4.0, -3.0, 0.0),
        (math.nan, -1.0, -3.0, 1.0),
        (-math.inf, -1.0, -3.0, 1.0),
        (-1.0, math.nan, -3.0, 0.0),
        (0.5, 0.7, -math.inf, 0.0),
    ],
)
def test_gain(before, after, floor, expected):
    assert gain(before, after, floor) == expected


FACTS = Unchanged(ended=True, rates=[0.001])


class Made:
    """Runs that have been made: the unchanged one, and one with a change; each takes as long as it says."""

    def __init__(self, plain, changed, deadline=math.inf):
        self.plain, self.changed, self.deadline, self.begun = plain, changed, deadline, set()

    def clock(self):
        return len(self.begun) * self.plain.seconds

    def begin(self, changes, seed, steps):
        done = Future()
        self.begun.add((*(change.words for change in changes), seed))
        done.set_result(self.changed if changes else self.plain)
        return done


def searched(plain, changed, measure, deadline=math.inf):
    """The verdicts of a search among rates, and its trials."""
    again = Reruns(Made(plain, changed, deadline), plain, measure)
    search = Search(again, again, lambda _: None, rounds=1)
    return search.causes(rates(replace(plain.facts, base=again.base, validated=measure.validated))), search.trials


def rates(run):
    """What is suspected of the rate of an unchanged run."""
    return [*lower_rates.judge(None, run), *higher_rates.judge(None, run)]


@pytest.mark.parametrize(("training", "expected"), [(0.5, ["learning-rate-too-high"]), (1.5, [])])
def test_a_lower_rate_under_which_the_training_data_are_fitted_worse_only_overfits_less(training, expected):
    def ran(loss, validation):
        return Ran(10, [[i, loss] for i in range(10)], [[9, validation]], [], "", [], FACTS, [], 0.0)

    measure = Measure("loss", lambda each: -each.validation[-1][1], -3.0, True)
    found, trials = searched(ran(1.0, 2.0), ran(training, 1.0), measure)
    assert [v.suspicion.cause for v in found] == expected
    assert trials[1].gain == 0.5


@pytest.mark.parametrize(("deadline", "tried"), [(70.0, 6), (60.0, 5), (40.0, 2), (25.0, 0)])
def test_no_run_is_begun_that_would_end_after_the_deadline(deadline, tried):
    def ran(loss):
        return Ran(10, [[i, loss] for i in range(10)], [], [], "", [], FACTS, [], seconds=10.0)

    _, trials = searched(ran(1.0), ran(0.999), Measure("loss", lambda each: -each.losses[-1][1], -3.0, False), deadline)
    assert len(trials) - 1 == tried


class Clocked:
    """A sight that sees nothing but how many updates were made."""

    def __init__(self):
        self.watches, self.history, self.steps = [self], self, 0


@pytest.mark.parametrize(
    ("setup", "pace", "evaluation", "seconds", "updates", "least"),
    [
        (0.5, 0.01, 0.0, 5.0, 256, 0),  # a power of two
        (30.0, 0.01, 0.0, 5.0, 256, 0),  # slow imports or data: fewer runs, of as many updates
        (50.0, 0.01, 0.0, 5.0, 2, 51),  # slower ones than an examination has time for
        (0.5, 3.0, 0.0, 5.0, 5, 0),  # slow updates: five say it
        (0.5, 30.0, 0.0, 5.0, 2, 151),
        (0.5, 0.01, 0.2, 5.0, 116, 0),  # what comes between updates is slow
    ],
)
def test_a_slow_script_is_cut_off_or_refused(monkeypatch, setup, pace, evaluation, seconds, updates, least):
    clock = [0.0]
    monkeypatch.setattr(child, "now", lambda: clock[0])
    sight, ends = Clocked(), []
    limit = child._Limit(sight, child.Order(None, [], 0, 2000, seconds, "", "", 1), lambda: ends.append(sight.steps))
    clock[0] += setup
    while not ends:
        clock[0] += pace + (evaluation if sight.steps > 20 else 0.0)
        sight.steps += 1
        limit.after()
    assert ends == [updates]
    first = Ran(updates, [], [], [], "", [], Unchanged(), [], clock[0], limit.paces[0], median(limit.paces[1:]))
    budget, jobs = seconds * SHARE / 2, 2
    if least:
        with pytest.raises(ProgramError, match=rf"needs a budget of {least} s at least; got 40"):
            _checked(Script("slow.py"), first, budget, jobs)
    else:
        _checked(Script("slow.py"), first, budget, jobs)
        assert 4 * first.seconds / jobs <= 2 * budget


@pytest.mark.parametrize(
    ("loss", "score", "expected"),
    [
        (0.5, 0.6, ["learning-rate-too-high"]),
        (0.5, 0.21, []),  # hardly more than a constant answer's 0.2
        (math.nan, 0.6, []),  # it diverged
    ],
)
def test_a_change_wins_only_what_is_learnt(loss, score, expected):
    def ran(loss, score):
        return Ran(10, [[i, loss] for i in range(10)], [[9, score]], [], "", [], FACTS, [], 0.0)

    measure = Measure("accuracy", lambda each: each.validation[-1][1], 0.2, True)
    found, _ = searched(ran(1.0, 0.18), ran(loss, score), measure)
    assert [v.suspicion.cause for v in found] == expected


@pytest.mark.parametrize(
    ("usual", "ended", "last", "cause"),
    [
        (True, True, 1.0, "too-few-updates"),
        (True, True, 2.1, "learning-rate-too-low"),  # from 3 to 2.1, and there since the second third
        (True, False, 1.0, "learning-rate-too-low"),  # the examination has cut it off
        (False, True, 1.0, "learning-rate-too-low"),
    ],
)
def test_a_training_that_is_given_up_while_its_loss_falls(usual, ended, last, cause):
    facts = replace(FACTS, usual=usual, ended=ended)
    losses = [[i, max(3.0 - 2 * i / 60, last)] for i in range(60)]
    measure = Measure("loss", lambda each: -each.losses[-1][1], -3.0, False)
    base = measure.of(Ran(60, losses, [], [], "", [], facts, [], 0.0))
    _, higher = rates(replace(facts, base=base))
    assert higher.cause == cause
    assert ("epochs" in higher.remedies[0].patch) is (cause == "too-few-updates")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def build():\n    return 1\n", False),
        ("def build():\n    return 1\nif __name__ == '__main__':\n    build()\n", False),
        ("def build():\n    return 1\nmodel = build()\n", True),
        ("def build():\n    return 1\ndef main():\n    model = build()\n", True),
        ("x = 1\n", True),
    ],
)
def test_a_file_that_calls_its_own_build_is_a_script(tmp_path, text, expected):
    (tmp_path / "train.py").write_text(text)
    assert command.is_script(str(tmp_path / "train.py")) is expected


def test_shapes_that_would_be_broadcast():
    assert mismatched(torch.zeros(5, 1), torch.zeros(5))
    assert not mismatched(torch.zeros(5, 1), torch.zeros(5, 1))
    assert not mismatched(torch.zeros(5, 5), torch.zeros(5))
    assert not mismatched(torch.zeros(1), torch.zeros(()))
    assert not mismatched(torch.zeros(6), torch.zeros(2, 3))


LINE = "    nn.Softmax(dim=1),\n"
BACKWARD = "for x in xs:\n    loss = f(x)\n    loss.backward()\n    o.step()\n"


@pytest.mark.parametrize(
    ("cause", "faulty", "mended"),
    [
        ("output-mismatch", "m = S(\n    nn.Linear(2, 3),\n" + LINE + ")\n", "m = S(\n    nn.Linear(2, 3),\n)\n"),
        ("gradients-accumulate", BACKWARD, BACKWARD.replace("    loss.b", "    o.zero_grad()\n    loss.b")),
        ("gradient-ascent", "(-loss).backward()\n", "loss.backward()\n"),
        ("gradient-ascent", "SGD(p, maximize=True)\n", "SGD(p, maximize=False)\n"),
        ("learning-rate-too-high", "o = SGD(p, lr=5.0, weight_decay=5.0)\n", "o = SGD(p, lr=0.5, weight_decay=5.0)\n"),
        ("learning-rate-too-high", "a.add_argument('--lr', default=5.0)\n", "a.add_argument('--lr', default=0.5)\n"),
        ("learning-rate-too-high", "ä, lr = 1, 5.0\n", "ä, lr = 1, 0.5\n"),
        ("penalty-too-strong", "SGD(p, lr=1, weight_decay=3.0)\n", "SGD(p, lr=1, weight_decay=0.0)\n"),
        ("dropout-too-strong", "d = nn.Dropout(p=0.9)\n", "d = nn.Dropout(p=0.0)\n"),
        ("eval-mode-in-training", "m.eval()\n" + BACKWARD, "m.eval()\nm.train()\n" + BACKWARD),
        ("schedule", "s = StepLR(o, 1)\n" + BACKWARD + "    s.step()\n", "s = StepLR(o, 1)\n" + BACKWARD),
        ("schedule", "s = StepLR(o, 1)\nfor x in xs:\n    s.step()\n", None),  # nothing would be left
        ("learning-rate-too-high", "SGD(a, lr=5.0)\nSGD(b, lr=5.0)\n", None),  # which of the two?
        ("inputs-not-normalized", "x = 1\n", None),
    ],
)
def test_a_patch_is_a_diff_of_the_script(tmp_path, cause, faulty, mended):
    path = tmp_path / "train.py"
    path.write_text(faulty)
    found = patch(path, cause, [5.0], 0.1)
    assert path.read_text() == faulty
    if mended is None:
        assert not found
        return
    (tmp_path / "fix.diff").write_text(found + "\n")
    done = subprocess.run(["git", "apply", "fix.diff"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.read_text() == mended


def one(script, steps, *changes):
    with Runs(script, deadline=120) as runs:
        return runs.begin(changes, 0, steps).result()


def test_runs_are_cut_off_seeded_and_kept(script):
    text = script(LOOP)
    with Runs(text, deadline=120) as runs:
        orders = [([], 0), ([learning_rate(10, [])], 0), ([], 1)]
        first, same, other = (run.result() for run in [runs.begin(*order, 30) for order in orders])
    assert first.steps == 30
    assert first.losses[0] == same.losses[0]  # the script sets no seed; the first loss is before any change
    assert first.losses[0] != other.losses[0]
    assert first.losses[-1] != same.losses[-1]
    assert [step for step, _ in first.validation] == [20]
    with Runs(text, deadline=120) as runs:
        runs._run = None  # nothing is run again
        assert runs.begin([], 0, 30).result() == first
        runs.forget()
        with pytest.raises(TypeError):
            runs.begin([], 0, 30).result()


def test_what_a_script_writes_stays_in_a_scratch_copy(script, tmp_path):
    outside = tmp_path / "precious.pt"
    outside.write_text("precious")
    inside = "torch.save(model.state_dict(), 'best.pt')\nopen('log.txt', 'w').write('x')\n"
    done = one(script(LOOP + inside), 1000)
    assert (done.steps, done.error) == (80, "")
    assert [path.name for path in Path().iterdir()] == ["train.py"]
    for line in (f"torch.save(model.state_dict(), {str(outside)!r})", f"open({str(outside)!r}, 'w')"):
        done = one(script(LOOP + line), 1000)
        assert outside.read_text() == "precious"
        assert "exit status 1" in done.error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise OSError('no data here')", "fails before its first update"),
        ("import argparse\na = argparse.ArgumentParser()\na.add_argument('x')\na.parse_args()", "exit status 2"),
        ("print(1)", "makes no update"),
    ],
)
def test_what_trains_nothing_is_one_line(script, text, said):
    script(text)
    command = [sys.executable, "-m", "levelhead", "examine", "--json", "train.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert not done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("levelhead:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in done.stderr
    assert "usage:" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("y = (x[:, 0] + x[:, 1] > 0).long()", "y = (torch.randn(300) > 0).long()", "labels-corrupted"),
        ("{end}", "nn.Softmax(dim=0),", "rows-mixed"),
    ],
)
def test_what_the_unchanged_run_is_asked(script, old, new, cause):
    """A fault, and the same script without it."""
    for text, expected in ((LOOP.replace(old, new).replace("+ (x[:, 2] > 1).long()", ""), True), (LOOP, False)):
        done = one(script(text), 200)
        causes = [f.cause for each in done.examinations for f in each.findings]
        assert (cause in causes) is expected, done.error
        assert len(done.validation) == 4  # what the model was asked is none of the script's evaluations


VARIATIONAL = """
import torch
from torch import nn
import torch.nn.functional as F

x = torch.rand(200, 6).round()
encoder, decoder = nn.Linear(6, 4), nn.Sequential(nn.Linear(2, 6), nn.Sigmoid())
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.02)
for i in range(150):
    mean, logvar = encoder(x).chunk(2, 1)
    answer = decoder(mean + torch.randn_like(mean) * (logvar / 2).exp())
    penalty = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum()
    loss = F.binary_cross_entropy(answer, x) + penalty
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

    def error():
        with torch.no_grad():
            value = (decoder(encoder(x)[:, :2]) - x).square().mean()
        return value.item()

    if i % 30 == 29:
        error()
"""


def test_a_penalty_that_outweighs_the_comparison_is_lightened(script):
    text = script(VARIATIONAL)
    plain, lighter = one(text, 1000), one(text, 1000, penalty_lightened())
    assert plain.facts.penalized
    assert plain.facts.spread < CONSTANT
    (line,) = plain.readings  # handed back by a function, and read with gradients on
    assert "value.item()" in line[2]
    (other,) = lighter.readings
    assert other[3][-1][1] < 0.9 * line[3][-1][1]


def test_a_softmax_too_many_is_proven_and_patched(script):
    found = examine_script(script(LOOP, "nn.Softmax(dim=1),"), budget=60)
    assert (found.findings[0].cause, found.findings[0].where) == ("output-mismatch", "3")
    assert "-    nn.Softmax(dim=1)," in found.findings[0].patch.splitlines()
    before = next(t for t in found.trials if t.change == "as it is")
    after = next(t for t in found.trials if t.cause == "output-mismatch")
    assert after.score > before.score
    assert after.gain > 0.1
    treated = found.treat(seeds=2)
    assert treated.accepted
    assert treated.patch == found.findings[0].patch
    assert min(treated.after.values) > max(treated.before.values)
    assert json.loads(json.dumps(found.to_dict()))["findings"]


ADAPTED = LOOP.replace(
    "model =",
    """
class Adapted(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(16, 3).requires_grad_(False)
        self.a, self.b = nn.Parameter({start}(2, 16)), nn.Parameter(torch.zeros(3, 2))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T

model =""",
).replace("nn.Linear(16, 3),", "Adapted(),")


@pytest.mark.parametrize(("start", "expected"), [("torch.zeros", ["2"]), ("torch.randn", [])])
def test_an_adapter_both_of_whose_factors_are_zero_learns_nothing(script, start, expected):
    (seen,) = one(script(ADAPTED.replace("{start}", start)), 1000).examinations
    assert [f.where for f in seen.findings if f.cause == "constant-init"] == expected
    assert not [note for note in seen.notes if "error of its own" in note]


SCHEDULED = LOOP.replace("for i in range(80):", "rates = torch.optim.lr_scheduler.{}\nfor i in range(80):").replace(
    "    optimizer.step()\n", "    optimizer.step()\n    rates.step()\n"
)


@pytest.mark.parametrize(
    ("schedule", "kept"),
    [
        ("OneCycleLR(optimizer, 0.01, 80, cycle_momentum=False)", False),
        ("OneCycleLR(optimizer, 0.01, 8000, cycle_momentum=False)", True),  # as one that is stepped an epoch
        ("LambdaLR(optimizer, lambda i: i / 1000)", True),  # its warm-up outlives the training
    ],
)
def test_a_schedule_that_keeps_the_rate_down_is_left_out(script, schedule, kept):
    text = script(SCHEDULED.replace("{}", schedule))
    plain, other = one(text, 1000), one(text, 1000, without_schedule())
    assert any(f.where == "loop" and "schedule" in f.summary for f in plain.examinations[0].findings) is kept
    steady = one(script(LOOP), 1000)
    assert other.losses == steady.losses
    assert not kept or plain.losses[-1][1] > 1.5 * other.losses[-1][1]


def test_a_healthy_script_has_no_finding(script):
    found = examine_script(script(LOOP), budget=60)
    assert [f for f in found.findings if f.severity == "critical"] == []
    assert {t.change for t in found.trials} >= {"as it is", "other seeds", "learning rate x 0.1"}


def test_a_script_that_fails_in_the_middle_is_not_healthy(script):
    found = examine_script(script(LOOP + "raise SystemExit(3)\n"), budget=30)
    assert found.verdict == "undecided: after 80 updates the script ends with exit status 3"


def test_a_script_of_tensors_alone_can_be_run(script):
    text = (
        LOOP.replace("model(x[:200])", "x[:200] @ w")
        .replace("model(x[200:])", "x[200:] @ w")
        .replace("model.parameters()", "[w]")
    )
    done = one(script("import torch\nw = torch.zeros(4, 3, requires_grad=True)\n" + text), 10)
    assert done.steps == 10


def test_a_missing_script_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProgramError, match="no such file"):
        examine_script(Script("none.py"))


RINGS = """
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)
x = torch.randn(600, 2)
y = (x.square().sum(1) > 1.4).long()


class Rings(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 128), nn.Linear(128, 2)

    def forward(self, x):
        return self.last(ANSWER)


model = Rings()
FREEZE
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.Adam(trained, lr=0.01)
for i in range(120):
    model.train()
    answers = model(x[:300])
    loss = F.cross_entropy(answers, y[:300]) TERM
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model.eval()
with torch.no_grad():
    accuracy = (model(x[300:]).argmax(1) == y[300:]).float().mean()
print(accuracy.item())
"""
OWN = "+ 9 * (F.one_hot(y[:300], 2) * answers.log_softmax(1)).sum(1).mean()"


def rings(answer="torch.tanh(self.first(x))", freeze="", term=""):
    return RINGS.replace("ANSWER", answer).replace("FREEZE", freeze).replace("TERM", term)


@pytest.mark.parametrize(
    ("text", "fact", "remedy"),
    [
        (rings(term=OWN), "opposing", remedies.term_turned()),
        (rings("F.dropout(torch.tanh(self.first(x)), 0.8)"), "dropping", remedies.standard_evaluation()),
        (
            rings("torch.sigmoid(self.middle(torch.sigmoid(self.first(x))))", "model.middle = nn.Linear(128, 128)"),
            "",
            remedies.relu_for_sigmoid(["middle", "last"]),
        ),
        (rings(freeze="model.first.requires_grad_(False)"), "", remedies.all_parameters()),
    ],
    ids=["term", "dropout", "sigmoids", "frozen"],
)
def test_what_only_the_last_evaluation_shows(script, text, fact, remedy):
    """A script that judges itself once, after its last update, with a fault and with its repair."""
    with Runs(script(text), deadline=120) as runs:
        plain = runs.begin([], 0, 1000, 0.0).result()
        mended = runs.begin([remedy], 0, plain.steps + 1).result()
    assert plain.facts.ended
    assert not fact or getattr(plain.facts, fact)
    before, after = (measure(plain).of(each).score for each in (plain, mended))
    assert after > before + 0.02, (before, after, mended.error)
    for other in ("opposing", "sampled", "dropping", "oversized"):
        assert bool(getattr(plain.facts, other)) is (other == fact)
