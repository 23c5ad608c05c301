"""``levelhead.watch`` on loops with and without faults: what it says, and that it leaves nothing behind."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import levelhead as lh
from levelhead.doctor import ProgramError
from levelhead.doctor.evidence.history import LIMIT, Series

X = torch.randn(256, 20, generator=torch.Generator().manual_seed(0))
Y = (X[:, :4].sum(1) > 0).long() + 2 * (X[:, 4:8].sum(1) > 0).long()


def mlp(activation=nn.ReLU):
    return nn.Sequential(nn.Linear(20, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 4))


def normed(momentum=0.1):
    return nn.Sequential(
        nn.Linear(20, 32, bias=False), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, 4)
    )


def steps(model, optimizer, count=120, x=X, *, clear="before", none=True, rows=32, evaluation=False, watching=None):
    """The user's own loop."""
    order = torch.Generator().manual_seed(1)
    losses = []
    for i in range(count):
        batch = torch.randint(len(x), (rows,), generator=order)
        if clear == "before":
            optimizer.zero_grad(set_to_none=none)
        loss = nn.functional.cross_entropy(model(x[batch]), Y[batch])
        if clear == "between":
            optimizer.zero_grad(set_to_none=none)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if evaluation and i % 20 == 0:
            with torch.no_grad():
                model(x)
    return losses


def watched(model, *, rate=0.1, optimizer=None, **more):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=rate)
    with lh.watch(model, optimizer) as watch:
        steps(model, optimizer, **more)
    return watch


def causes(watch):
    return [finding.cause for finding in watch.findings]


@pytest.mark.parametrize("clear", ["before", "between"])
@pytest.mark.parametrize("none", [True, False])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_healthy_loop_has_no_findings(clear, none, kind):
    model = mlp()
    watch = watched(
        model, optimizer=kind(model.parameters(), lr=0.01 if kind is torch.optim.AdamW else 0.1), clear=clear, none=none
    )
    assert watch.findings == ()
    assert "No fault seen in 120 updates, 10 of them measured" in str(watch)
    assert "ealthy" not in str(watch)
    assert watch.history.uncleared == 0
    assert watch.history.cleared == 10  # after each measured step but the last one


def constant():
    model = mlp()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.02)
    return model


def cut_off():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(20, 32), nn.Linear(32, 4)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)).detach())

    return Cut()


def ascending():
    model = mlp()
    return watched(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, maximize=True))


def half_given():
    model = mlp()
    return watched(model, optimizer=torch.optim.SGD(model[0].parameters(), lr=0.1))


def of_another_model():
    return watched(mlp(), optimizer=torch.optim.SGD(mlp().parameters(), lr=0.1))


def softmax_at_the_end():
    model = mlp()
    model.add_module("softmax", nn.Softmax(1))
    return model


def left_in_eval_mode():
    model = normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lh.watch(model, optimizer) as watch:
        steps(model, optimizer, count=60)
        model.eval()  # a tool that does not put it back
        steps(model, optimizer, count=60)
    return watch


def nan_in_a_target():
    model, target = mlp(), X[:, :4].clone()
    target[40] = math.nan
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with lh.watch(model, optimizer) as watch:
        for i in range(8):
            rows = slice(8 * i, 8 * i + 8)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(X[rows]), target[rows]).backward()
            optimizer.step()
    return watch


def driven():
    """A rate at which the first updates drive every unit flat."""
    model = mlp(nn.Tanh)
    return watched(model, optimizer=torch.optim.Adam(model.parameters(), lr=3.0), count=240)


@pytest.mark.parametrize(
    ("cause", "where", "run"),
    [
        ("gradients-accumulate", "loop", lambda: watched(mlp(), clear="never", rate=0.001)),
        ("inputs-not-normalized", "data", lambda: watched(mlp(nn.Sigmoid), x=40 * X + 100)),
        ("learning-rate-too-high", "optimizer", lambda: watched(mlp(), rate=100.0)),
        ("learning-rate-too-low", "optimizer", lambda: watched(mlp(), rate=1e-7)),
        ("constant-init", "0", lambda: watched(constant())),
        ("gradient-ascent", "optimizer", ascending),
        ("loss-detached", "first", lambda: watched(cut_off())),
        ("parameters-not-trained", "optimizer", half_given),
        ("eval-mode-in-training", "loop", lambda: watched(normed().eval())),
        ("train-mode-in-eval", "loop", lambda: watched(normed(), evaluation=True)),
        ("stale-running-statistics", "1", lambda: watched(normed(momentum=0.001))),
        ("batch-too-small", "data", lambda: watched(normed(), rows=3, rate=0.01)),
        ("parameters-not-trained", "optimizer", of_another_model),
        ("output-mismatch", "softmax", lambda: watched(softmax_at_the_end())),
        ("eval-mode-in-training", "loop", left_in_eval_mode),
        ("non-finite-loss", "loss", nan_in_a_target),
        ("learning-rate-too-high", "optimizer", driven),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_is_the_first_finding(cause, where, run):
    finding = run().findings[0]
    assert (finding.cause, finding.where) == (cause, where)
    assert finding.threshold
    assert finding.remedy


def test_what_a_cause_explains_is_its_symptom():
    watch = watched(mlp(), rate=30.0)
    assert causes(watch) == ["learning-rate-too-high"]
    assert any("are 0 for every row" in symptom for symptom in watch.findings[0].symptoms)


def test_what_only_a_trial_proves_is_a_remark_where_the_loss_falls():
    watch = watched(mlp(), x=X * 8, rate=0.003, count=300)
    assert [(f.cause, f.severity) for f in watch.findings] == [("inputs-not-normalized", "info")]
    assert watch.examination().healthy


def test_a_loss_that_hardly_falls_is_told():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    labels = torch.randint(0, 4, (256,), generator=torch.Generator().manual_seed(9))
    order = torch.Generator().manual_seed(1)
    with lh.watch(model, optimizer) as watch:
        for _ in range(150):
            rows = torch.randint(256, (32,), generator=order)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X[rows]), labels[rows]).backward()
            optimizer.step()
    assert [(f.cause, f.severity) for f in watch.findings] == [("does-not-learn", "info")]


@pytest.mark.parametrize("functional", [False, True])
def test_dead_units_are_seen_of_modules_and_of_functions(functional):
    class Functional(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.first, self.last = inner[0], inner[4]

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    model = mlp()
    nn.init.constant_(model[0].bias, -50.0)
    model = Functional(model) if functional else model
    finding = next(f for f in watched(model, rate=0.01).findings if f.cause == "dead-units")
    assert finding.where == ("last" if functional else "1")


def test_nan_in_the_inputs_is_the_cause_of_a_loss_that_is_not_finite():
    x = X.clone()
    x[7, 3] = math.nan
    watch = watched(normed(), x=x)
    assert causes(watch)[0] == "non-finite-data"
    assert "learning-rate-too-high" not in causes(watch)


def test_gradients_gathered_over_batches_are_no_fault():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lh.watch(model, optimizer) as watch:
        for i in range(160):
            (nn.functional.cross_entropy(model(X[:32]), Y[:32]) / 4).backward()
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    assert watch.findings == ()
    assert watch.history.steps == 40


def test_another_models_loss_through_this_one_is_no_accumulation():
    """A generator's loss leaves gradients in the critic, which are cleared before the critic's own."""
    critic, maker = nn.Linear(20, 1), nn.Linear(20, 20)
    theirs, ours = (torch.optim.SGD(m.parameters(), lr=0.01) for m in (critic, maker))
    with lh.watch(critic, theirs) as watch:
        for _ in range(30):
            theirs.zero_grad()
            (critic(X) - critic(maker(X).detach())).mean().backward()
            theirs.step()
            ours.zero_grad()
            critic(maker(X)).mean().backward()
            ours.step()
    assert "gradients-accumulate" not in causes(watch)


def test_overfitting_is_seen_in_the_losses_that_are_told():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lh.watch(model, optimizer) as watch:
        for told in (1.0, 0.5, 0.7, 0.9, 1.2):
            steps(model, optimizer, count=30)
            watch.validation(told)
    assert causes(watch) == ["overfitting"]


def test_the_run_is_bit_for_bit_the_same_and_nothing_is_left():
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(32, 4)
    )
    alone = copy.deepcopy(model)
    plain = torch.Tensor.backward
    results = []
    for each, having in ((alone, False), (model, True)):
        optimizer = torch.optim.Adam(each.parameters(), lr=0.01)
        torch.manual_seed(4)
        if having:
            with lh.watch(each, optimizer):
                losses = steps(each, optimizer)
        else:
            losses = steps(each, optimizer)
        results.append((losses, torch.get_rng_state(), [t.clone() for t in each.state_dict().values()], optimizer))
    (losses, state, tensors, _), (losses_, state_, tensors_, optimizer) = results
    assert losses == losses_
    assert torch.equal(state, state_)
    assert all(map(torch.equal, tensors, tensors_))
    assert torch.Tensor.backward is plain
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not any(p._backward_hooks for p in model.parameters())


def test_what_is_measured_is_right():
    """One step, against plain autograd."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    twin = copy.deepcopy(model)
    with lh.watch(model, optimizer) as watch:
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    measured = watch.history.measured[0]
    loss = nn.functional.cross_entropy(twin(X), Y)
    gradients = dict(
        zip(dict(twin.named_parameters()), torch.autograd.grad(loss, list(twin.parameters())), strict=True)
    )
    assert watch.history.losses.values == [loss.item()]
    for name, parameter in twin.named_parameters():
        found = measured.weights[name]
        assert found.gradient == pytest.approx(gradients[name].norm().item(), rel=1e-5)
        assert found.weight == pytest.approx(parameter.norm().item(), rel=1e-5)
        assert found.ratio == pytest.approx(0.1 * found.gradient / found.weight, rel=1e-3)  # a difference of weights
    assert measured.move == pytest.approx(-1, abs=1e-3)
    hidden = twin[1](twin[0](X))
    assert measured.layers["1"].mean == pytest.approx(hidden.mean().item(), rel=1e-5)
    assert measured.layers["1"].std == pytest.approx(hidden.std(correction=0).item(), rel=1e-5)
    assert measured.layers["1"].idle == pytest.approx((hidden == 0).all(0).float().mean().item())
    assert measured.batch.rms == pytest.approx(X.square().mean().sqrt().item(), rel=1e-5)


def test_losses_of_an_accelerator_are_read_later(monkeypatch):
    """As on a GPU, where a loss stays a tensor until the next measured step."""
    monkeypatch.setattr("levelhead.doctor.watching.losses._value", lambda loss: loss.detach())
    torch.manual_seed(0)
    model = mlp()
    torch.manual_seed(0)
    twin = mlp()
    later = watched(model, count=40).history.losses
    monkeypatch.undo()
    assert (later.steps, later.values) == ((now := watched(twin, count=40).history.losses).steps, now.values)
    assert len(later) == 40


def test_every_16th_step_is_measured_and_five_of_the_first():
    watch = watched(mlp(), count=50)
    assert [m.step for m in watch.history.measured] == [0, 1, 2, 4, 8, 16, 32, 48]


def test_the_distance_of_the_measured_steps_doubles_three_times():
    watch = watched(mlp(), count=900)
    apart = [64, 96, 128, 192, 256, 384, 512, 640, 768, 896]
    assert [m.step for m in watch.history.measured if m.step >= 64] == apart


def test_the_examination_has_charts_and_can_be_saved(tmp_path):
    examination = watched(mlp(), count=50).examination()
    assert [c.title for c in examination.charts][:2] == ["Loss", "Activations by layer"]
    assert "Change by weight" in [c.title for c in examination.charts]
    examination.save(tmp_path / "watch.json")
    assert lh.doctor.Examination.load(tmp_path / "watch.json").findings == examination.findings


def test_a_compiled_model_is_watched_from_outside():
    model = torch.compile(mlp(), backend="eager")
    watch = watched(model, count=20)
    assert watch.history.steps == 20
    assert watch.history.measured[0].layers == {}
    assert "compiled" in str(watch)


def test_closures_and_an_unused_optimizer():
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    with lh.watch(model, optimizer) as watch:
        for _ in range(12):
            optimizer.step(closure)
    assert watch.history.steps == len(watch.history.losses) == 12
    assert causes(watch) == []
    other = torch.optim.SGD(mlp().parameters(), lr=0.1)
    with lh.watch(model, other) as watch:
        steps(model, torch.optim.SGD(model.parameters(), lr=0.1), count=3)
    assert "no step of the optimizer was seen" in str(watch)


def test_findings_are_told_while_the_loop_runs():
    model, told = normed().eval(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lh.watch(model, optimizer, on_finding=told.append):
        steps(model, optimizer, count=20)
    assert [f.cause for f in told] == ["eval-mode-in-training"]


def test_an_error_of_the_watch_does_not_reach_the_loop(monkeypatch):
    def broken(*_):
        raise KeyError("ours")

    monkeypatch.setattr("levelhead.doctor.evidence.probe.sample", broken)
    model = mlp()
    with pytest.warns(UserWarning, match="levelhead stops watching: KeyError"):
        watch = watched(model, count=20)
    assert "an error of its own" in str(watch)
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("model", "optimizer", "message"),
    [
        (3, None, "model must be a torch.nn.Module, got int"),
        (nn.Linear(2, 2), [], "empty list"),
        (nn.Linear(2, 2), ["sgd"], "must be a torch.optim.Optimizer .*got str"),
    ],
)
def test_bad_arguments(model, optimizer, message):
    with pytest.raises(ProgramError, match=message):
        lh.watch(model, optimizer)
    with pytest.raises(ProgramError, match="every must be at least 1, got 0"):
        lh.watch(nn.Linear(2, 2), torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), every=0)


def test_a_curve_of_any_length_is_kept_in_few_points():
    series = Series()
    for i in range(10 * LIMIT):
        series.append(i, float(i))
    assert LIMIT / 2 <= len(series) < LIMIT
    assert series.steps == sorted(series.steps)
    width = series.steps[1] - series.steps[0]
    assert all(value == step - (width - 1) / 2 for step, value in series)
