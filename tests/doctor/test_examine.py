"""The doctor names the fault of each program, and nothing on a healthy one."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import faulty_programs as programs
import pytest
import torch
from torch import nn

import levelhead as lh
from levelhead.doctor import comparison, remedies, treat, trials
from levelhead.doctor.copies import Copies
from levelhead.doctor.evidence.examined import gather
from levelhead.doctor.findings import Examination, Scores
from levelhead.doctor.rules.network import squashing

#: Seconds: far more than they take, so that a busy machine cuts no examination short.
BUDGET = 300.0


@pytest.fixture(autouse=True)
def _same_weights():
    """Each program begins with the same weights, whatever ran before it."""
    torch.manual_seed(0)


@pytest.mark.parametrize("case", programs.FAULTY, ids=lambda case: case.__name__)
def test_the_cause_is_found_and_its_place(case):
    cause, where = programs.FAULTY[case]
    found = lh.examine(case(), budget=BUDGET)
    assert not found.healthy
    assert found.findings[0].cause == cause, str(found)
    assert where is None or found.findings[0].where == where, str(found)


@pytest.mark.parametrize("case", programs.HEALTHY, ids=lambda case: case.__name__)
def test_a_healthy_program_is_left_in_peace(case):
    found = lh.examine(case(), budget=BUDGET)
    assert found.healthy, str(found)
    assert found.trials[0].score > 0.9


@pytest.mark.parametrize("factor", [1000.0, 0.001])
def test_the_verdict_does_not_hang_on_the_scale_of_the_loss(factor):
    made = programs.nothing_but_linear()
    made.loss = lambda o, t: factor * nn.functional.mse_loss(o, t)
    made.optimizer = torch.optim.SGD(made.model.parameters(), lr=0.02 / factor, momentum=0.9)
    assert [f.cause for f in lh.examine(made, budget=BUDGET).findings] == ["missing-nonlinearity"]


def test_a_symptom_is_told_with_its_cause_and_is_no_finding():
    found = lh.examine(programs.inputs_in_bytes(), budget=BUDGET)
    assert [f.cause for f in found.findings] == ["inputs-not-normalized"]
    assert any(symptom.startswith("saturating-activation at 1") for symptom in found.findings[0].symptoms)


def test_an_examination_survives_its_file(tmp_path):
    found = lh.examine(programs.rate_of_ten(), budget=BUDGET)
    found.save(tmp_path / "examination.json")
    again = Examination.load(tmp_path / "examination.json")
    assert [f.cause for f in again.findings] == [f.cause for f in found.findings]
    assert again.verdict == found.verdict
    assert str(again) == str(found)
    with pytest.raises(ValueError, match="examine it anew"):
        again.treat()
    (tmp_path / "other.json").write_text('{"findings": 3}')
    with pytest.raises(ValueError, match="does not hold an examination"):
        Examination.load(tmp_path / "other.json")


def test_rules_are_chosen_and_silenced():
    assert lh.examine(programs.one_label_only(), budget=BUDGET, ignore=["LH1", "LH608"]).healthy
    assert not lh.examine(programs.one_label_only(), budget=BUDGET, select=["labels-invalid"]).healthy
    with pytest.raises(ValueError, match="no rule 'LH9'"):
        lh.examine(programs.plain(), select=["LH9"])


def test_a_little_time_gives_a_verdict_that_says_so():
    long = programs.program(epochs=100_000)
    found = lh.examine(long, budget=1.0)
    assert found.healthy
    assert any("judged by the first" in note for note in found.notes)
    assert found.seconds < 60


CLOCK = [0.0]  # a global: what a step's closure holds is copied


def test_a_busy_machine_changes_no_number_of_updates(monkeypatch):
    """Seconds are turned into updates by the fastest of the first ones, not by the clock on the wall."""
    monkeypatch.setattr(trials, "now", lambda: CLOCK[0])

    def updates(slow, fast, seconds):
        calls = []

        def step(program, batch):
            calls.append(0)
            CLOCK[0] += slow if len(calls) % 3 else fast

        return trials.train(programs.program(step=step, epochs=20), seconds=seconds)

    assert [updates(slow, 0.001, 0.5).updates for slow in (0.001, 0.02)] == [320, 320]
    cut = updates(0.01, 0.01, 0.5)
    assert cut.updates == 32  # 50 fit, and 32 is the power of two below
    assert cut.cost == pytest.approx(0.32)


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="the kernel does not tell")
def test_the_clock_stands_while_others_have_the_processor():
    kept = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(kept)})
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:  # on the same processor
            time.sleep(0.1)
            wall, mine, worked = time.perf_counter(), trials.now(), time.thread_time()
            while time.thread_time() - worked < 0.2:
                pass
            wall, mine = time.perf_counter() - wall, trials.now() - mine
            other.kill()
    finally:
        os.sched_setaffinity(0, kept)
    assert wall > 0.3
    assert mine == pytest.approx(0.2, abs=0.05)


def test_a_suspicion_that_there_was_no_time_to_try_leaves_the_verdict_open(monkeypatch):
    monkeypatch.setattr(Copies, "affords", lambda self, cost: False)
    found = lh.examine(programs.inputs_in_bytes(), budget=BUDGET)
    assert not found.healthy
    assert found.verdict.startswith("undecided: time ran out before what speaks for inputs-not-normalized")


def test_a_budget_that_is_too_small_is_told_at_once():
    with pytest.raises(ValueError, match=r"an update takes 0\.2.* s, so that an examination needs a budget of \d+ s"):
        lh.examine(programs.program(step=lambda p, b: time.sleep(0.2)), budget=0.5)


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(8, 4), 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("shapes do not fit")
        return self.layer(x)


def raising():
    raise ValueError("no such file")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: programs.program(Broken()), r"fails at .*(batch|evaluation).*shapes do not fit"),
        (lambda: programs.program(loader={"drop_last": True}, batch=500), "yields no batch"),
        (
            lambda: programs.program(loss=nn.CrossEntropyLoss(reduction="none")),
            r"one number a batch, got shape \(25,\)",
        ),
        (lambda: programs.program(mlp_on_meta()), "meta device"),
        (lambda: 3, "a int is no training program, it lacks model"),
        (lambda: lh.Program(nn.Linear(1, 1), 3, None, []), "loss must be a function"),
        (lambda: lh.Program(nn.Linear(1, 1), nn.MSELoss(), optimizer(), iter([])), "one pass uses up"),
        (lambda: raising, "no such file"),
    ],
)
def test_bad_input_is_one_clear_message(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        lh.examine(make())
    assert len(str(caught.value).splitlines()) == 1


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = programs.mlp()

    def forward(self, x, mask):
        return self.inner(x * mask)


def masked_step(program, batch):
    x, mask, y = (batch[name] for name in ("x", "mask", "y")) if isinstance(batch, dict) else batch
    program.optimizer.zero_grad()
    loss = program.loss(program.model(x, mask), y)
    loss.backward()
    program.optimizer.step()
    return loss.detach()


def masked_score(program):
    program.model.eval()
    hits = [(program.model(x, mask).argmax(1) == y).double().mean() for x, mask, y in program.val]
    program.model.train()
    return float(sum(hits) / len(hits))


@pytest.mark.parametrize("named", [False, True])
def test_batches_of_three_parts_with_a_step_of_their_own(named):
    def batches(rows, seed):
        x, y = programs.clusters(rows, seed)
        parts = zip(x.split(25), y.split(25), strict=True)
        return [(a, torch.ones_like(a), b) for a, b in parts]

    train = batches(400, 0)
    made = programs.program(Masked(), step=masked_step, evaluate=masked_score)
    made.train = [dict(zip(("x", "mask", "y"), each, strict=True)) for each in train] if named else train
    made.val = batches(300, 1)
    found = lh.examine(made, budget=BUDGET)
    assert found.healthy, str(found)
    assert found.trials[0].score > 0.9
    made.step = None
    with pytest.raises(ValueError, match=r"got a (tuple of 3|dict); give step= .*loss\.backward\(\)"):
        lh.examine(made)


def mlp_on_meta():
    with torch.device("meta"):
        return programs.mlp()


def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)


def test_a_treatment_is_kept_only_if_it_is_better():
    treated = lh.examine(programs.sigmoid_then_softmax(), budget=BUDGET).treat(budget=BUDGET)
    assert treated.accepted
    assert treated.after.low > treated.before.high
    assert "sigmoid" in treated.patch
    assert treated.program.final_score() in treated.after.values
    assert "mended" in str(treated)


@pytest.mark.parametrize(
    "case",
    [
        programs.branch_without_gradients,
        programs.nan_in_inputs,
        programs.layers_in_a_list,
        programs.labels_two_thirds_wrong,
    ],
)
def test_what_the_code_of_a_model_keeps_from_training_is_mended(case):
    treated = lh.examine(case(), budget=BUDGET).treat(budget=BUDGET)
    assert treated.accepted, str(treated)
    assert treated.after.median > 0.8


def test_a_softmax_between_layers_is_suspected():
    found = squashing(gather(programs.softmax_between()))
    assert [(s.cause, s.where) for s in found] == [("saturating-activation", "1")]


def test_what_cannot_be_mended_is_left_as_it_was():
    program = programs.labels_shifted_by_rows()
    treated = lh.examine(program, budget=BUDGET).treat(budget=BUDGET)
    assert not treated.accepted
    assert "no remedy" in treated.note
    assert torch.equal(treated.program.model[0].weight, program.model[0].weight)
    with pytest.raises(ValueError, match="at least 2"):
        lh.examine(program, budget=BUDGET).treat(seeds=1)


def test_a_score_of_minus_infinity_is_no_gain():
    found = lh.examine(programs.nan_in_inputs(), budget=BUDGET)
    assert all(not math.isnan(trial.gain) for trial in found.trials)


@pytest.mark.parametrize(
    ("before", "after", "clear"),
    [
        ((0.17, 0.70, 0.82), (0.91, 0.94, 0.95), True),  # a wide spread, and no overlap
        ((0.60, 0.61, 0.62), (0.66, 0.66, 0.66), True),
        ((0.60, 0.80, 0.62), (0.61, 0.81, 0.99), False),  # one lucky seed
        ((0.60, 0.80, 0.62), (0.99, 0.79, 0.99), False),  # one seed is worse
        ((0.60, 0.60, 0.60), (0.602, 0.602, 0.602), False),  # nothing worth a change
    ],
)
def test_what_is_clearly_better(before, after, clear):
    assert comparison.clear(Scores(before), Scores(after), comparison.LEAST * 0.4) is clear


def test_a_refined_learning_rate_is_that_of_the_mended_program():
    made = programs.plain()
    tenth = remedies.learning_rate(0.1, [0.01])
    assert treat._rates(made, []) == [0.01]
    assert treat._rates(made, [tenth]) == pytest.approx([0.001])
