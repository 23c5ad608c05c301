"""An examination leaves a program as it was, bit for bit."""

import copy
import random
import threading

import faulty_programs as programs
import numpy as np
import pytest
import torch
from torch import nn

import levelhead as lh
from levelhead.doctor import Program, remedies
from levelhead.doctor.isolation import clone, random_state_kept
from levelhead.doctor.program import standard_step


def state(program):
    generator = program.train.generator
    return copy.deepcopy(
        {
            "model": program.model.state_dict(),
            "gradients": [p.grad for p in program.model.parameters()],
            "optimizer": program.optimizer.state_dict(),
            "modes": [m.training for m in program.model.modules()],
            "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in program.model.modules()],
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
            "python": random.getstate(),
            "loader": None if generator is None else generator.get_state(),
        }
    )


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(0.0), b.nan_to_num(0.0)) if a.is_floating_point() else torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("case", [programs.norm_and_light_dropout, programs.statistics_with_nan])
def test_nothing_changes(case):
    program = case()
    program.train.generator = program.train.sampler.generator = torch.Generator().manual_seed(4)
    for batch in list(program.train)[:3]:  # so that there is a state of the optimizer, and gradients
        program.update(batch)
    program.model[0].eval()
    before = state(program)
    lh.examine(program)
    assert_same(before, state(program))


def test_a_step_that_holds_the_model_itself_works_on_copies():
    program = programs.plain()
    model, optimizer = program.model, program.optimizer

    def step(program, batch):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.detach()

    program.step = step
    before = state(program)
    twin = clone(program)
    twin.update(next(iter(twin.train)))
    assert_same(before["model"], program.model.state_dict())
    assert not torch.equal(twin.model[0].weight, program.model[0].weight)


WORLD = {}


def reaching_out(program, batch):
    WORLD["program"].optimizer.zero_grad()
    loss = nn.functional.cross_entropy(WORLD["program"].model(batch[0]), batch[1])
    loss.backward()
    WORLD["program"].optimizer.step()
    return loss.detach()


def test_a_step_that_reaches_past_the_copies_is_undone_and_told():
    WORLD["program"] = program = programs.program(step=reaching_out, epochs=2)
    before = state(program)
    with pytest.raises(ValueError, match=r"take program\.model and program\.optimizer in step"):
        lh.examine(program)
    assert_same(before, state(program))


SOLE = programs.plain()
MODEL, OPTIMIZER = SOLE.model, SOLE.optimizer


def one_update(batch):
    OPTIMIZER.zero_grad()
    loss = nn.functional.cross_entropy(MODEL(batch[0]), batch[1])
    loss.backward()
    OPTIMIZER.step()
    return loss.detach()


def test_a_step_over_globals_trains_the_copy():
    program = programs.program(MODEL, optimizer=lambda _: OPTIMIZER, step=lambda program, batch: one_update(batch))
    before = state(program)
    found = lh.examine(program)
    assert_same(before, state(program))
    assert found.healthy
    assert found.trials[0].score > 0.9


@pytest.mark.parametrize("workers", [{"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}])
def test_loaders_with_workers_are_read_without_them(workers):
    program = programs.program(loader=workers)
    program.val = torch.utils.data.DataLoader(program.val.dataset, batch_size=100, **workers)
    if "persistent_workers" in workers:
        next(iter(program.train))  # a pass that is under way, with workers that cannot be copied
    twin = clone(program)
    assert (twin.train.num_workers, twin.val.num_workers) == (0, 0)
    assert len(list(twin.train)) == len(program.train)
    assert program.train.num_workers == 1


def test_batches_of_a_list_are_not_changed_by_a_program_that_changes_its_own():
    def step(program, batch):
        batch[0].mul_(0.5)
        return standard_step(program, batch)

    program = programs.program(step=step)
    program.train = list(program.train)
    kept = [batch[0].clone() for batch in program.train]
    lh.examine(program)
    assert all(torch.equal(batch[0], before) for batch, before in zip(program.train, kept, strict=True))


class Counting(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, outputs, targets):
        self.calls += 1
        return super().forward(outputs, targets)


def test_a_loss_with_a_state_keeps_it():
    program = programs.program(loss=Counting())
    seen = []
    program.step = lambda program, batch: (seen.append(float(program.loss.calls)), standard_step(program, batch))[1]
    assert lh.examine(program).healthy
    assert program.loss.calls == 0


class Locked(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.lock = programs.mlp(), threading.Lock()

    def forward(self, x):
        with self.lock:
            return self.inner(x)


def test_what_cannot_be_copied_is_built_anew():
    def build():
        return programs.program(Locked())

    with pytest.raises(ValueError, match="give a function that builds it"):
        lh.examine(build())
    torch.manual_seed(3)
    program = Program.of(build)
    program.update(next(iter(program.train)))
    twin = clone(program)
    assert_same(program.model.state_dict(), twin.model.state_dict())
    assert len(twin.optimizer.state) == len(program.optimizer.state)
    remedies.learning_rate(0.5, [0.01])(twin)
    assert clone(twin).optimizer.param_groups[0]["lr"] == 0.005
    assert lh.examine(build).healthy


def test_a_lazy_model_is_one_line():
    program = programs.plain()
    program.model = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(ValueError, match="lazy modules without shapes; run one batch"):
        lh.examine(program)


def test_wrappers_are_left_out_of_the_copy():
    program = programs.plain()
    wrapped = programs.program(nn.DataParallel(program.model))
    assert isinstance(clone(wrapped).model, nn.Sequential)
    compiled = torch.compile(program.model, backend="eager")
    assert isinstance(clone(programs.program(compiled)).model, nn.Sequential)


def test_a_copy_sees_the_same_batches():
    program = programs.plain()
    torch.manual_seed(3)
    torch.empty((), dtype=torch.int64).random_()  # a loader draws a seed for its workers first
    mine = list(clone(program).train)
    torch.manual_seed(3)
    theirs = list(program.train)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(mine, theirs, strict=True))


def test_random_states_are_kept():
    before = torch.get_rng_state(), random.getstate()
    with random_state_kept():
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


@pytest.mark.filterwarnings("ignore:Seems like `optimizer.step")
def test_a_schedule_of_the_copy_steps_the_copy():
    """A schedule puts a step of its own into the optimizer, which is bound to it."""
    program = programs.warm_up_without_end()
    copied = clone(program)
    before = [p.detach().clone() for p in program.model.parameters()]
    copied.optimizer.param_groups[0]["lr"] = 0.1
    copied.update(next(iter(copied.train)))
    assert all(torch.equal(p, q) for p, q in zip(program.model.parameters(), before, strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(copied.model.parameters(), before, strict=True))


def test_an_optimizer_is_copied_with_what_its_class_adds():
    program = programs.second_order()
    copied = clone(program)
    assert [id(p) for p in copied.optimizer._params] == [id(p) for p in copied.model.parameters()]
