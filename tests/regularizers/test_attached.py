"""Regularizers on optimizers: closures, skipped steps, groups, schedulers, resuming."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from levelhead.regularizers import L1, L2, Cosine, Linear, MaxNorm

RANDOM = torch.Generator().manual_seed(0)
X, Y = torch.randn(16, 5, generator=RANDOM), torch.randn(16, 3, generator=RANDOM)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def step(model, optimizer):
    optimizer.zero_grad()
    (model(X) - Y).square().mean().backward()
    optimizer.step()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("kwargs", [{}, {"foreach": True}, {"fused": True}])
def test_l2_on_adamw_is_its_own_decay_to_the_bit(kwargs):
    ours, theirs = network(), network()
    a = torch.optim.AdamW(ours.parameters(), lr=0.01, weight_decay=0.0, **kwargs)
    groups = [{"params": [theirs[0].weight, theirs[2].weight], "weight_decay": 0.3},
              {"params": [theirs[0].bias, *theirs[1].parameters(), theirs[2].bias]}]  # fmt: skip
    b = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.0, **kwargs)
    before = a.param_groups
    l2 = L2(0.3).attach(a)
    for _ in range(5):
        step(ours, a)
        step(theirs, b)
        assert a.param_groups is before
    for name, value in weights(theirs).items():
        assert torch.equal(weights(ours)[name], value), name
    assert a.param_groups[0]["weight_decay"] == 0.0
    assert l2.steps == 5


def test_l2_shrinks_before_the_step_on_any_optimizer():
    """RMSprop with the shrink is AdamW's recipe by hand: (1 - αλ) w - step."""
    model, bare = network(), network()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    plain = torch.optim.RMSprop(bare.parameters(), lr=0.01)
    L2(0.5).attach(optimizer, model)
    before = weights(bare)
    step(bare, plain)
    step(model, optimizer)
    for name, value in weights(model).items():
        shrink = (1 - 0.01 * 0.5) if name in ("0.weight", "2.weight") else 1.0
        torch.testing.assert_close(value, shrink * before[name] + (weights(bare)[name] - before[name]))


def test_an_interrupted_step_leaves_no_trace_in_the_next():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    L2(0.3).attach(optimizer)
    groups = optimizer.param_groups

    def closure():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    step(model, optimizer)
    assert optimizer.param_groups is groups
    assert [group["weight_decay"] for group in groups] == [0.0]


def test_two_decays_and_a_threshold_on_one_adamw():
    model, other = network(), network()
    a = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    l1, first, second = L1(0.01).attach(a), L2(0.1).attach(a, model), L2(0.2, "0.weight").attach(a, model)
    b = torch.optim.AdamW([{"params": [other[0].weight], "weight_decay": 0.3},
                           {"params": [other[2].weight], "weight_decay": 0.1},
                           {"params": [other[0].bias, *other[1].parameters(), other[2].bias]}],
                          lr=0.01, weight_decay=0.0)  # fmt: skip
    L1(0.01).attach(b)
    for _ in range(3):
        step(model, a)
        step(other, b)
    for name, value in weights(other).items():
        # 0.1 + 0.2 is not 0.3 to the last digit.
        torch.testing.assert_close(weights(model)[name], value, rtol=1e-6, atol=1e-8)
    assert (l1.steps, first.steps, second.steps) == (3, 3, 3)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("make", [L1, L2])
def test_a_skipped_step_of_the_grad_scaler_is_skipped(fused, make):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    attached, bound = make(0.5).attach(optimizer), MaxNorm(0.1).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu")
    before = weights(model)
    for infinite in (True, False):
        optimizer.zero_grad()
        scaler.scale((model(X) - Y).square().mean() * (float("inf") if infinite else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        same = all(torch.equal(value, before[name]) for name, value in weights(model).items())
        assert same == infinite
        assert attached.steps == bound.steps == (0 if infinite else 1)
    assert float(model[0].weight.detach().norm(dim=1).max()) <= 0.1 * (1 + 1e-6)


def test_closures():
    """LBFGS, which asks its closure several times a step: the threshold comes once, behind what it did by itself."""
    model, bare = network(), network()
    optimizer, plain = (torch.optim.LBFGS(m.parameters(), lr=0.5, max_iter=4) for m in (model, bare))
    l1 = L1(0.2).attach(optimizer)

    def closure(model, optimizer):
        optimizer.zero_grad()
        loss = (model(X) - Y).square().mean()
        loss.backward()
        return loss

    optimizer.step(lambda: closure(model, optimizer))
    plain.step(lambda: closure(bare, plain))
    for name, value in weights(bare).items():
        wanted = nn.functional.softshrink(value, 0.5 * 0.2) if name in ("0.weight", "2.weight") else value
        torch.testing.assert_close(weights(model)[name], wanted)
    assert l1.steps == 1
    assert l1.zeros()[0] == sum(int((weights(bare)[n].abs() <= 0.1).sum()) for n in ("0.weight", "2.weight")) > 0
    # A closure makes the gradients within the step: the shrink may not wait for them.
    p = nn.Parameter(torch.ones(2, 2))
    sgd = torch.optim.SGD([p], lr=0.1)
    L2(1.0).attach(sgd)

    def still():
        p.grad = torch.zeros_like(p)
        return 0.0

    sgd.step(still)
    torch.testing.assert_close(p.detach(), torch.full((2, 2), 0.9))


def test_groups_schedulers_and_frozen_parameters():
    a, b, c = (nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    a.grad, b.grad = torch.zeros(2, 2), torch.zeros(2, 2)
    optimizer = torch.optim.SGD([{"params": [a, c]}, {"params": [b], "lr": 0.01}], lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    L1(1.0).attach(optimizer)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(a.detach(), torch.full((2, 2), 1 - 0.1 - 0.05))
    torch.testing.assert_close(b.detach(), torch.full((2, 2), 1 - 0.01 - 0.005))
    assert torch.equal(c.detach(), torch.ones(2, 2))  # it has no gradient, so the step leaves it alone
    late = nn.Parameter(torch.ones(2, 2))
    late.grad = torch.zeros(2, 2)
    optimizer.add_param_group({"params": [late], "lr": 0.2})
    optimizer.step()
    torch.testing.assert_close(late.detach(), torch.full((2, 2), 0.8))


def test_a_schedule_goes_on_where_a_state_was_saved():
    def start():
        p = nn.Parameter(torch.full((2, 2), 5.0))
        p.grad = torch.zeros_like(p)
        optimizer = torch.optim.SGD([p], lr=1.0)
        return p, optimizer, L1(Linear(1.0, 0.0, 4)).attach(optimizer)

    p, optimizer, attached = start()
    optimizer.step()
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.full((2, 2), 5 - 1 - 0.75))
    q, second, again = start()
    second.load_state_dict(optimizer.state_dict())
    assert again.steps == attached.steps == 2
    second.step()
    torch.testing.assert_close(q.detach(), torch.full((2, 2), 4.5))
    bare = torch.optim.SGD([nn.Parameter(torch.ones(2, 2))], lr=1.0).state_dict()
    second.load_state_dict(bare)  # saved before the regularizer was attached
    assert again.steps == 0


def test_schedules():
    assert [Linear(1.0, 0.0, 4)(t) for t in (0, 1, 4, 9)] == [1.0, 0.75, 0.0, 0.0]
    assert [round(Cosine(1.0, 0.0, 4)(t), 6) for t in (0, 2, 4, 9)] == [1.0, 0.5, 0.0, 0.0]


def test_a_schedule_that_ends():
    p = nn.Parameter(torch.ones(2, 2))
    p.grad = torch.zeros_like(p)
    optimizer = torch.optim.SGD([p], lr=0.1)
    L1([0.1, 0.2]).attach(optimizer)
    optimizer.step()
    optimizer.step()
    with pytest.raises(ValueError, match=r"L1's strength ends after 2 steps, and step 3 was taken.*Linear"):
        optimizer.step()


def test_removed_it_does_nothing():
    model = network()
    for regularizer in (L1(1.0), L2(1.0)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
        attached = regularizer.attach(optimizer)
        attached.remove()
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        before = weights(model)
        optimizer.step()
        assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
        assert not [key for key in optimizer.param_groups[0] if "levelhead" in str(key)]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_shrink_below_zero_is_refused(optimizer):
    p = nn.Parameter(torch.ones(2, 2))
    p.grad = torch.zeros_like(p)
    steps = optimizer([p], lr=2.0)
    L2(0.6).attach(steps)
    with pytest.raises(ValueError, match=r"1 - αλ would be -0.2, with learning rate α = 2 and strength λ = 0.6"):
        steps.step()


def test_names_need_the_model_or_named_parameters():
    model = network()
    L1(1.0, "0.weight").attach(torch.optim.SGD(model.named_parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"matches '2\.weight'.*the names are 0\.0, 0\.1"):
        L1(1.0, "2.weight").attach(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"type Linear are known from the model alone; pass model="):
        L1(1.0, nn.Linear).attach(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="6 of the optimizer's parameters are not the model's"):
        L1(1.0).attach(torch.optim.SGD(model.parameters(), lr=0.1), network())
    with pytest.raises(TypeError, match="got Sequential"):
        L1(1.0).attach(model)
