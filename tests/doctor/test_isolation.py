"""An examination leaves a program as it was, bit for bit."""

import copy
import random

import faulty_programs as programs
import numpy as np
import pytest
import torch
from torch import nn

import levelhead as lh
from levelhead.doctor.isolation import clone, random_state_kept


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
    before = copy.deepcopy(program.model.state_dict())
    found = lh.examine(program)
    assert_same(before, program.model.state_dict())
    assert any("does not use the program it is given" in note for note in found.notes)


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
