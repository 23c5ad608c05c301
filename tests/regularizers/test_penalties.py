"""Penalties: their values and gradients against NumPy and autograd, and the steps that they take when attached."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import levelhead as lh
from levelhead.regularizers import L1, L2, ElasticNet, GroupLasso, MaxNorm, Orthogonal, SpectralNorm, UnitNorm

#: The lectures' matrix. The slide prints 1.2 for its sum of absolute values, which is 2.4.
LECTURES = [[0.1, 0.5, -0.3], [-0.2, 0.4, 0.2], [-0.1, 0.3, 0.3]]


def weight(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def parameter(values):
    p = nn.Parameter(values.clone())
    p.grad = torch.zeros_like(p)
    return p


def attached(penalty, values, rate=0.1, steps=1):
    """The weights after steps of gradient descent with a gradient of 0: the penalty's own steps."""
    p = parameter(values)
    optimizer = torch.optim.SGD([p], lr=rate)
    penalty.attach(optimizer)
    for _ in range(steps):
        optimizer.step()
    return p.detach()


def test_the_lectures_matrix():
    w = torch.tensor(LECTURES, dtype=torch.float64)
    assert float(L1(1.0)(w)) == pytest.approx(2.4)
    assert float(2 * L2(1.0)(w)) == pytest.approx(0.78)
    assert float(ElasticNet(1.0, 2 * 0.5)(w)) == pytest.approx(2.4 + 0.5 * 0.78)
    step = attached(L2(0.5), w)
    torch.testing.assert_close(step, (1 - 0.1 * 0.5) * w)  # the shrink 1 - αλ
    torch.testing.assert_close(attached(L1(2.0), w), torch.tensor(  # α λ = 0.2
        [[0, 0.3, -0.1], [0, 0.2, 0], [0, 0.1, 0.1]], dtype=torch.float64))  # fmt: skip


VALUES = {
    "L1": (L1(0.3), lambda w: 0.3 * np.abs(w).sum()),
    "L2": (L2(0.3), lambda w: 0.15 * (w**2).sum()),
    "ElasticNet": (ElasticNet(0.3, 0.2), lambda w: 0.3 * np.abs(w).sum() + 0.1 * (w**2).sum()),
    "GroupLasso": (
        GroupLasso(0.3),
        lambda w: 0.3 * sum(math.sqrt(r.size) * np.linalg.norm(r) for r in w),
    ),
    "GroupLasso of inputs": (
        GroupLasso(0.3, dim=1),
        lambda w: 0.3 * sum(math.sqrt(r.size) * np.linalg.norm(r) for r in np.moveaxis(w, 1, 0)),
    ),
    "Orthogonal": (
        Orthogonal(0.3),
        lambda w: 0.3 * ((w.reshape(len(w), -1) @ w.reshape(len(w), -1).T - np.eye(len(w))) ** 2).sum(),
    ),
    "SpectralNorm": (
        SpectralNorm(0.3, iterations=200),
        lambda w: 0.15 * np.linalg.svd(w.reshape(len(w), -1))[1][0] ** 2,
    ),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("shape", [(4, 6), (3, 2, 3, 3)])
def test_values_are_those_of_numpy_and_gradients_those_of_differences(name, shape):
    penalty, wanted = VALUES[name]
    w = weight(*shape).requires_grad_()
    assert penalty(w).item() == pytest.approx(wanted(w.detach().numpy()), rel=1e-9)
    (gradient,) = torch.autograd.grad(penalty(w), w)
    direction = weight(*shape, seed=1)
    up, down = (wanted((w + h * direction).detach().numpy()) for h in (1e-6, -1e-6))
    # Central differences of doubles: 1e-12 of error in the square of the step, 1e-10 in the rounding.
    assert (gradient * direction).sum().item() == pytest.approx((up - down) / 2e-6, rel=1e-6)
    both = penalty([w, w])
    assert both.item() == pytest.approx(2 * wanted(w.detach().numpy()), rel=1e-9)


@pytest.mark.parametrize("name", ["L1", "ElasticNet", "GroupLasso", "GroupLasso of inputs"])
def test_the_step_is_the_minimum_that_defines_it(name):
    """A proximal step gives argmin_u R(u) + |u - w|² / 2α: nothing near it may have less."""
    penalty, value = VALUES[name]
    w = weight(4, 6)
    u = attached(penalty, w, rate=0.8).numpy()

    def objective(u):
        return value(u) + ((u - w.numpy()) ** 2).sum() / (2 * 0.8)

    random = np.random.default_rng(2)
    least = objective(u)
    for size in (1e-1, 1e-3, 1e-5):
        assert all(objective(u + size * random.normal(size=u.shape)) > least for _ in range(50))
    assert least < objective(w.numpy())


@pytest.mark.parametrize("name", ["Orthogonal", "SpectralNorm"])
def test_what_has_no_proximal_step_takes_one_of_its_gradient(name):
    penalty, value = VALUES[name]
    w = weight(4, 6)
    moved = attached(penalty, w, rate=1e-3)
    h = 1e-6
    gradient = np.zeros((4, 6))
    for index in np.ndindex(4, 6):
        up, down = w.numpy().copy(), w.numpy().copy()
        up[index] += h
        down[index] -= h
        gradient[index] = (value(up) - value(down)) / (2 * h)
    np.testing.assert_allclose((w - moved).numpy() / 1e-3, gradient, atol=1e-7)


def test_exact_zeros_and_their_count():
    model = nn.Linear(20, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    l1 = L1(1.0).attach(optimizer)
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.randn(8, 20)).square().mean().backward()
        optimizer.step()
    zeros, count = l1.zeros()
    assert count == 200  # the bias is not penalized
    assert zeros == int((model.weight == 0).sum()) > 20
    assert (model.bias == 0).sum() == 0


def test_group_lasso_makes_whole_units_zero():
    w = weight(5, 8) * torch.tensor([1.0, 0.01, 1.0, 0.01, 1.0], dtype=torch.float64)[:, None]
    after = attached(GroupLasso(0.5), w)
    assert (after == 0).all(1).tolist() == [False, True, False, True, False]
    zero = attached(GroupLasso(0.5), torch.zeros(2, 3, dtype=torch.float64))
    assert torch.equal(zero, torch.zeros(2, 3, dtype=torch.float64))


def test_nan_is_not_hidden_by_the_threshold():
    w = torch.tensor([[math.nan, 0.05, 1.0]])
    assert torch.equal(attached(L1(1.0), w).isnan(), w.isnan())


def test_zero_and_narrow_weights_have_finite_gradients():
    for penalty, _ in VALUES.values():
        w = torch.zeros(3, 4, requires_grad=True)
        (gradient,) = torch.autograd.grad(penalty(w), w)
        assert torch.equal(gradient, torch.zeros(3, 4)), penalty
    many = torch.full((1000, 1000), 0.01, dtype=torch.bfloat16)
    # bfloat16's own 0.01 is 0.010009765625; a sum in bfloat16 would stop at 2.6.
    assert float(L1(1.0)(many)) == pytest.approx(10009.765625, rel=1e-6)


@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 3, 3)])
def test_max_norm_and_unit_norm(shape):
    w = weight(*shape) * torch.tensor([0.01, 1.0, 5.0, 0.0], dtype=torch.float64).reshape(4, *[1] * (len(shape) - 1))
    norms = w.flatten(1).norm(dim=1)
    most = attached(MaxNorm(1.5), w)
    torch.testing.assert_close(most.flatten(1).norm(dim=1), norms.clamp(max=1.5))
    assert torch.equal(most[norms <= 1.5], w[norms <= 1.5])
    unit = attached(UnitNorm(), w).flatten(1).norm(dim=1)
    torch.testing.assert_close(unit, torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64))
    model = nn.Linear(6, 4)
    UnitNorm(dim=1).apply_(model)
    torch.testing.assert_close(model.weight.norm(dim=0), torch.ones(6))


def test_spectral_norm_goes_on_from_its_last_vectors():
    w = nn.Parameter(weight(30, 20))
    penalty = SpectralNorm(2.0)
    values = [penalty(w).item() for _ in range(60)]
    exact = float(torch.linalg.matrix_norm(w.detach(), 2)) ** 2
    assert values[-1] == pytest.approx(exact, rel=1e-6)
    assert max(values) <= exact * (1 + 1e-12)


def test_spectral_norm_keeps_the_vectors_of_each_part_of_a_tensor_apart():
    w, penalty = weight(40, 20), SpectralNorm(2.0)
    parts = w[:20], 3 * w[20:].clone()
    w[20:] = parts[1]
    found = [float(penalty([w[:20], w[20:]])) for _ in range(60)][-1]
    assert found == pytest.approx(sum(float(torch.linalg.matrix_norm(part, 2)) ** 2 for part in parts), rel=1e-6)


def test_a_strength_can_be_a_number_of_numpy():
    w = weight(3, 4)
    assert float(L2(np.float32(0.5))(w)) == pytest.approx(0.25 * float(w.square().sum()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: L1(-0.1), "L1's strength must be at least 0 and finite, got -0.1"),
        (lambda: L2(math.nan), "L2's strength.*got nan"),
        (lambda: ElasticNet(0.1, -1), "ElasticNet's l2.*got -1"),
        (lambda: L1(lambda step: -1.0), "got -1.0 at step 0"),
        (lambda: MaxNorm(0), "above 0 and finite, got 0"),
        (lambda: SpectralNorm(1.0, iterations=0), "at least 1, got 0"),
        (lambda: L1(1.0)([]), "L1 of no tensors"),
        (lambda: GroupLasso(1.0, dim=2)(torch.ones(2, 3)), r"dimension 2.*\(2, 3\)"),
        (lambda: L1(1.0, "*.wieght")(nn.Sequential(nn.Linear(2, 2))), r"matches '\*.wieght'.*did you mean '0.weight'"),
        (lambda: L1(1.0, nn.Conv2d)(nn.Linear(2, 2)), "no module of type Conv2d has a weight"),
        (lambda: L1(1.0)(nn.LayerNorm((2, 3))), "there is no weight of two or more dimensions"),
        (lambda: L1(1.0)(nn.LazyLinear(3)), "'weight' has no values yet"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_strength_must_be_a_number_or_a_schedule():
    with pytest.raises(TypeError, match="got 'strong'"):
        L1("strong")


def test_a_model_pays_for_its_weights_alone_and_for_a_shared_one_once():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.LayerNorm((2, 3, 3)), nn.Flatten(), nn.Linear(18, 18), nn.Linear(18, 18)
    )
    model[4].weight = model[3].weight
    chosen = lh.regularizers.select(model)
    assert list(chosen) == ["0.weight", "3.weight"]
    wanted = model[0].weight.abs().sum() + model[3].weight.abs().sum()
    torch.testing.assert_close(L1(1.0)(model), wanted)
    assert list(lh.regularizers.select(model, "*.bias")) == ["0.bias", "1.bias", "3.bias", "4.bias"]
    assert list(lh.regularizers.select(model, nn.LayerNorm)) == ["1.weight", "1.bias"]
    assert list(lh.regularizers.select(model, [nn.Conv2d, "3.b*"])) == ["0.weight", "3.bias"]
    assert list(lh.regularizers.select(model, lambda name, p: p.ndim == 4)) == ["0.weight"]


def test_decay_groups():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    model[1].bias.requires_grad_(False)
    decayed, rest = lh.regularizers.decay_groups(model, 0.1)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight)]
    assert [id(p) for p in rest["params"]] == [id(p) for p in (model[0].bias, model[1].weight, model[2].bias)]
    torch.optim.AdamW(lh.regularizers.decay_groups(model, 0.1))
    with pytest.raises(ValueError, match="at least 0 and finite, got -1"):
        lh.regularizers.decay_groups(model, -1)
