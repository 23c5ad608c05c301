"""Each probe against plain autograd, NumPy, or a program that is known."""

from itertools import islice

import faulty_programs as programs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from levelhead.doctor.evidence import data, evaluation, loop, loss, structure
from levelhead.doctor.evidence.tables import agreement, difference
from levelhead.doctor.isolation import clone


def watch(program, updates=3):
    twin = clone(program)
    return loop.measure(twin, islice(twin.train, updates)), twin


def test_the_norm_of_a_gradient_is_that_of_plain_autograd():
    program = programs.program(loader={"shuffle": False})
    inputs, targets = next(iter(program.train))
    gradients = torch.autograd.grad(F.cross_entropy(program.model(inputs), targets), list(program.model.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm().item()
    seen, _ = watch(program)
    assert seen.updates[0].arrived == pytest.approx(norm, rel=1e-5)  # float32 sums, added in another order
    assert seen.updates[0].held == pytest.approx(norm, rel=1e-5)
    assert seen.first_norms["0.weight"] == pytest.approx(gradients[0].norm().item(), rel=1e-5)
    for update in seen.updates:
        assert update.cleared < 1e-3
        assert update.descent == pytest.approx(1, abs=1e-6)
        assert update.move < 0


def test_gradients_that_are_kept_are_told_from_gradients_that_are_gathered_on_purpose():
    seen, _ = watch(programs.never_cleared())
    assert all(u.kept < 1e-3 and u.cleared > 0.03 for u in seen.updates[1:])

    calls = []

    def step(program, batch):
        value = program.loss(program.model(batch[0]), batch[1])
        (value / 2).backward()
        calls.append(0)
        if len(calls) % 2 == 0:
            program.optimizer.step()
            program.optimizer.zero_grad()
        return value.detach()

    gathered, _ = watch(programs.program(step=step), 6)
    assert len(gathered.updates) == 3
    assert all(u.cleared < 1e-3 for u in gathered.updates)


def test_the_sign_of_an_update_is_seen():
    by_option, _ = watch(programs.uphill())
    assert all(u.move > 0.9 and u.descent > 0.9 for u in by_option.updates)
    by_sign, _ = watch(programs.uphill_by_sign())
    assert all(u.descent == pytest.approx(-1, abs=1e-6) for u in by_sign.updates)


def test_parameters_that_no_gradient_reaches():
    seen, _ = watch(programs.cut_off())
    assert seen.reached == {"head.weight", "head.bias"}
    assert "body" in seen.executed


def thawed_later(program, batch):
    program.extras["count"] = program.extras.get("count", 0) + 1
    program.model[0].requires_grad_(program.extras["count"] > 3)
    return programs.standard_step(program, batch)


def frozen_later(program, batch):
    program.extras["count"] = program.extras.get("count", 0) + 1
    program.model[0].requires_grad_(program.extras["count"] <= 3)
    return programs.standard_step(program, batch)


def test_layers_that_are_frozen_or_thawed_on_the_way():
    for step in (thawed_later, frozen_later):
        seen, _ = watch(programs.program(step=step), 6)
        assert seen.error is None
        assert seen.reached == {"0.weight", "0.bias", "2.weight", "2.bias"}
        assert seen.frozen == {"0.weight", "0.bias"}


def test_gradients_of_a_sparse_embedding_are_those_of_a_dense_one():
    def updates(sparse):
        torch.manual_seed(0)
        model = nn.Sequential(nn.EmbeddingBag(50, 8, sparse=sparse), nn.Linear(8, 4))
        words = torch.randint(0, 50, (400, 5), generator=torch.Generator().manual_seed(1))
        kind = torch.optim.SparseAdam if sparse else torch.optim.Adam
        data = (words, words[:, 0] % 4)
        program = programs.program(model, data=data, val=data, optimizer=lambda m: kind(m[0].parameters()), lr=0.01)
        seen, _ = watch(program, 3)
        assert seen.error is None
        return [(u.arrived, u.held, u.descent, u.cleared) for u in seen.updates]

    for sparse, dense in zip(updates(True), updates(False), strict=True):
        assert sparse == pytest.approx(dense, rel=1e-4, abs=1e-3)


def test_modes_in_training_and_evaluation():
    seen, _ = watch(programs.eval_mode_stays_on())
    assert seen.modes["1"] == {False}
    assert watch(programs.norm_and_light_dropout())[0].modes["1"] == {True}
    assert evaluation.measure(clone(programs.dropout_at_evaluation())).training == ["1", "3"]
    assert evaluation.measure(clone(programs.norm_and_light_dropout())).training == []


def test_an_error_is_kept_with_its_batch():
    def step(program, batch):
        if program.model.training:
            program.model.eval()
            return torch.zeros(())
        raise RuntimeError("no more")

    seen, _ = watch(programs.program(step=step))
    assert seen.failed_at == 2
    assert str(seen.error) == "no more"


@pytest.mark.parametrize(
    ("between", "linked"),
    [
        (lambda x: x, True),
        (lambda x: x.unflatten(1, (2, 4)).flatten(1), True),
        (torch.relu, False),
        (lambda x: x + 1, False),
    ],
)
def test_which_layers_follow_each_other(between, linked):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.second(between(self.first(x)))

    seen, _ = watch(programs.program(Net()), 1)
    pairs = [(a.name, b.name) for a, b in structure.pairs(seen.calls)]
    assert (("first", "second") in pairs) == linked


@pytest.mark.parametrize(
    ("last", "activation", "where", "module"),
    [
        ([], "", "2", False),
        ([nn.Softmax(1)], "softmax", "3", True),
        ([nn.Sigmoid(), nn.Flatten()], "sigmoid", "3", True),
        ([nn.LogSoftmax(1)], "log_softmax", "3", True),
        ([nn.ReLU(inplace=True)], "relu", "3", True),
    ],
)
def test_the_last_activation(last, activation, where, module):
    seen, _ = watch(programs.program(programs.mlp(last=last)), 1)
    found = structure.output(seen.losses[0].node, seen.calls)
    assert (found.activation, found.where, found.module) == (activation, where, module)


CLASSES, BITS = torch.tensor([0, 2, 1, 3, 3, 0]), torch.tensor([0.0, 1, 1, 0, 1, 0])[:, None]


@pytest.mark.parametrize(
    ("function", "outputs", "targets", "kind", "task"),
    [
        (F.cross_entropy, 4, CLASSES, "softmax", "classes"),
        (lambda o, t: 1000 * F.cross_entropy(o, t), 4, CLASSES, "softmax", "classes"),
        (F.nll_loss, 4, CLASSES, "nll", "classes"),
        (lambda o, t: F.mse_loss(o, F.one_hot(t, 4).float()), 4, CLASSES, "squared", "classes"),
        (lambda o, t: (o - F.one_hot(t, 4)).abs().sum(), 4, CLASSES, "absolute", "classes"),
        (F.mse_loss, 1, BITS, "squared", "binary"),
        (F.binary_cross_entropy_with_logits, 1, BITS, "logits", "binary"),
        (F.binary_cross_entropy, 1, BITS, "probabilities", "binary"),
        (lambda o, t: 0.001 * F.mse_loss(o, t), 2, torch.randn(6, 2), "squared", "quantity"),
        (F.huber_loss, 2, torch.randn(6, 2), "", "quantity"),
        (F.cross_entropy, 2, torch.randn(6, 2), "softmax", "quantity"),
    ],
)
def test_what_a_loss_is(function, outputs, targets, kind, task):
    found = loss.measure(function, torch.rand(6, outputs), targets)
    assert (found.kind, found.task, found.broadcast) == (kind, task, False)


def test_a_loss_that_broadcasts():
    assert loss.measure(lambda o, t: ((o - t) ** 2).mean(), torch.rand(6, 1), torch.rand(6)).broadcast
    assert not loss.measure(lambda o, t: ((o[:, 0] - t) ** 2).mean(), torch.rand(6, 1), torch.rand(6)).broadcast


def test_the_moments_of_the_data_and_its_order():
    x, y = programs.clusters(103, 3)
    x[4, 2] = torch.nan
    shuffled = data.measure(programs.program(data=(5 + 3 * x, y)).train)
    values = np.asarray(5 + 3 * x, dtype=np.float64)
    assert shuffled.inputs.mean == pytest.approx(np.nanmean(values), rel=1e-10)
    assert shuffled.inputs.std == pytest.approx(np.nanstd(values), rel=1e-10)
    np.testing.assert_allclose(shuffled.inputs.columns.std(), np.nanstd(values, axis=0), rtol=1e-10)
    assert (shuffled.inputs.bad, shuffled.rows, shuffled.batches, shuffled.sizes[-1]) == (1, 103, 5, 3)
    assert sum(shuffled.counts.values()) == 103
    assert not shuffled.fixed_order
    assert data.ordered(data.measure(programs.plain().train)) < 4  # chi-squared of 15 by 15 is below 2.6 at 0.1 %
    by_class = data.measure(programs.sorted_batches().train)
    assert data.ordered(by_class) > 10
    assert by_class.fixed_order


def test_neighbours_share_labels_that_belong_to_the_rows():
    x, y = programs.clusters(400, 0)
    share, chance, error = agreement(x, y)
    assert share > 0.9
    assert chance < 0.4
    share, chance, error = agreement(x, y.roll(17))
    assert abs(share - chance) < 5 * error
    assert agreement(x[:20], y[:20]) is None


def test_rows_of_symbols_are_near_by_what_they_hold():
    x, y = programs.notes(400, 0)
    share, chance, _ = agreement(x, y)
    assert share > 0.7 > 0.4 > chance
    columns = torch.randint(0, 4, (400, 3), generator=torch.Generator().manual_seed(0))
    share, chance, _ = agreement(columns, columns[:, 1])  # a table: the label is one of its columns
    assert share > chance + 0.3


def test_a_loss_is_asked_for_right_and_wrong_answers():
    random = torch.Generator().manual_seed(0)
    scores, classes = torch.randn(16, 4, generator=random), torch.randint(0, 4, (16,), generator=random)
    assert not loss.measure(nn.CrossEntropyLoss(), scores, classes).rewards_errors
    assert loss.measure(lambda o, t: -F.cross_entropy(o, t), scores, classes).rewards_errors
    assert loss.measure(lambda o, t: -F.mse_loss(o, t), scores, scores + 1).rewards_errors
    labels = torch.randint(0, 2, (16,), generator=random).float()
    hinge = loss.measure(lambda o, t: F.relu(1 - t * o).mean(), scores[:, 0], labels)
    assert hinge.silent == (0,)
    assert loss.measure(nn.SoftMarginLoss(), scores[:, 0], 2 * labels - 1).silent == ()
    counts = labels + 3
    assert loss.measure(nn.PoissonNLLLoss(log_input=True), scores[:, 0].exp(), counts).not_minimal_at_target
    for good in (nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.PoissonNLLLoss(log_input=False)):
        assert not loss.measure(good, scores[:, 0].exp(), counts).not_minimal_at_target
    assert loss.measure(nn.CrossEntropyLoss(reduction="sum"), scores, classes).summed
    assert not loss.measure(nn.CrossEntropyLoss(), scores, classes).summed
    assert loss.task(scores, scores.softmax(1)) == "classes"


def test_dropout_as_a_function_is_seen_where_it_is_called():
    stays = programs.dropout_as_a_function_stays_on()
    assert evaluation.measure(clone(stays)).dropped == [""]
    assert evaluation.measure(clone(programs.dropout_as_a_function())).dropped == []
    assert evaluation.measure(clone(programs.dropout_on_purpose())).dropped == ["2"] * 20


def test_two_samples_of_one_population_do_not_differ_and_others_do():
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(2000, 5, generator=random), torch.randn(500, 5, generator=random)
    assert abs(difference(a, b)[0]) < 4
    distance, column = difference(a, b * torch.tensor([1.0, 1.0, 1.0, 2.0, 1.0]))
    assert distance > 10
    assert column == 3
    codes, others = torch.randint(0, 9, (2000, 3), generator=random), torch.randint(0, 9, (400, 3), generator=random)
    assert abs(difference(codes, others)[0]) < 4
    assert difference(codes, others.clamp_max(5))[0] > 10
    assert difference(a, b[:, :3]) is None
    assert difference(a, codes[:, :1]) is None
    assert difference(a[:50], b) is None
