"""Noise modules: their distribution, their gradients, their rates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import levelhead as lh
from levelhead.regularizers import (
    DropBlock2d,
    DropConnect,
    DropPath,
    GaussianDropout,
    GaussianNoise,
    Linear,
    ShakeDrop,
    mc_predict,
    schedule_rates,
)

MODULES = {
    "DropPath": DropPath,
    "DropBlock2d": lambda p: DropBlock2d(p, 3),
    "DropConnect": lambda p: DropConnect(nn.Conv2d(3, 3, 1), p),
    "GaussianNoise": GaussianNoise,
    "GaussianDropout": GaussianDropout,
    "ShakeDrop": ShakeDrop,
}


@pytest.mark.parametrize("name", MODULES)
def test_the_mean_in_training_is_the_value_in_evaluation(name):
    torch.manual_seed(1)
    module, x = MODULES[name](0.3), torch.rand(4, 3, 8, 8) + 0.5
    outs = torch.stack([module(x) for _ in range(2000)]).detach()
    still = module.eval()(x).detach()
    mean, error = outs.mean(0), outs.std(0) / math.sqrt(2000)
    assert float(error.max()) > 0
    if name == "DropBlock2d":  # fewer blocks reach the edges: the mean is kept over the image, not in each place
        mean, error, still = mean.mean(), error.max(), still.mean()
    # 5 standard errors in each of the 768 places.
    assert bool(((mean - still).abs() < 5 * error + 1e-6).all())
    module.train().p = 0.0
    torch.testing.assert_close(module(x), module.eval()(x))


def test_drop_path_drops_rows():
    x = torch.ones(4000, 3, 2)
    y = DropPath(0.25)(x).flatten(1)
    assert bool((y == y[:, :1]).all())
    kept = y[:, 0] != 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / 0.75))
    assert abs(float(kept.double().mean()) - 0.75) < 5 * math.sqrt(0.25 * 0.75 / 4000)


def test_drop_block_drops_squares_of_about_the_rate():
    x = torch.ones(50, 8, 20, 20)
    y = DropBlock2d(0.1, 5)(x)
    dropped = y == 0
    # Overlaps: a place is dropped unless none of about 25 centres is, 1 - exp(-p) on average where blocks fit.
    assert 0.08 < float(dropped.double().mean()) < 0.105
    torch.testing.assert_close(y.sum(), x.sum())
    # Every dropped place lies in a whole 5×5 square of dropped places.
    whole = -nn.functional.max_pool2d(-dropped.float(), 5, stride=1)
    again = nn.functional.max_pool2d(nn.functional.pad(whole, [4] * 4), 5, stride=1) > 0
    assert torch.equal(again, dropped)
    with pytest.raises(ValueError, match=r"blocks 7×7 needs images.*\(2, 3, 6, 9\)"):
        DropBlock2d(0.1)(torch.ones(2, 3, 6, 9))


def test_drop_connect_drops_weights_and_keeps_the_layers_gradient():
    layer = nn.Linear(50, 40, bias=False)
    module = DropConnect(layer, 0.5)
    y = module(torch.eye(50)).T  # the weights that were used
    kept = y != 0
    assert 0.45 < float(kept.double().mean()) < 0.55
    torch.testing.assert_close(y[kept], 2 * layer.weight[kept])
    y.sum().backward()
    torch.testing.assert_close(layer.weight.grad, 2.0 * kept)
    with pytest.raises(ValueError, match="ReLU has none"):
        DropConnect(nn.ReLU())


def test_gaussian_noise_has_the_variance_of_its_formula():
    x = torch.full((100_000,), 3.0)
    for module, wanted in ((GaussianNoise(0.5), 0.25), (GaussianDropout(0.2), 9 * 0.2 / 0.8)):
        y = module(x)
        assert float(y.var()) == pytest.approx(wanted, rel=0.03)  # 5 standard errors of a variance: 5·√(2/n) = 2 %
        assert float(y.mean()) == pytest.approx(3, abs=5 * math.sqrt(wanted / 1e5))


def test_shake_drop_has_one_factor_forward_and_another_backward():
    x = torch.ones(5000, 2, requires_grad=True)
    y = ShakeDrop(0.5)(x)
    (g,) = torch.autograd.grad(y.sum(), x)
    out, back = y.detach()[:, 0], g[:, 0]
    shaken = back != 1
    assert abs(float(shaken.double().mean()) - 0.5) < 0.04
    torch.testing.assert_close(out[~shaken], torch.ones_like(out[~shaken]))
    assert -1 <= float(out[shaken].min()) < -0.9
    assert 0.9 < float(out[shaken].max()) <= 1 + 1e-6
    assert 0 <= float(back[shaken].min()) < 0.1
    assert 0.9 < float(back[shaken].max()) <= 1
    assert abs(float(torch.corrcoef(torch.stack([out[shaken], back[shaken]]))[0, 1])) < 0.1
    torch.testing.assert_close(ShakeDrop(0.5).eval()(x), 0.5 * x)


@pytest.mark.parametrize("make", [DropPath, DropBlock2d, GaussianDropout, ShakeDrop])
@pytest.mark.parametrize("p", [1.0, -0.1, math.nan])
def test_a_rate_of_one_or_more_is_refused(make, p):
    with pytest.raises(ValueError, match=rf"rate of {make.__name__} must be at least 0 and below 1, got p = {p}"):
        make(p)


def test_rates_follow_a_schedule_and_resume():
    def start():
        model = nn.Sequential(nn.Linear(2, 2), lh.nn.Dropout(0.9), nn.Dropout(0.9), DropPath(0.9))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return model, optimizer, schedule_rates(model, optimizer, Linear(0.0, 0.5, 2))

    model, optimizer, _ = start()
    rates = [[m.p for m in model[1:]]]
    for _ in range(3):
        optimizer.step()
        rates.append([m.p for m in model[1:]])
    assert rates == [[0.0] * 3, [0.25] * 3, [0.5] * 3, [0.5] * 3]
    again, second, _ = start()
    second.load_state_dict(optimizer.state_dict())
    assert [m.p for m in again[1:]] == [0.5] * 3
    with pytest.raises(ValueError, match=r"the rate must be at least 0 and below 1, got 1\.0"):
        schedule_rates(model, optimizer, 1.0)
    with pytest.raises(ValueError, match=r"no module of dropout.*F\.dropout"):
        schedule_rates(nn.Linear(2, 2), optimizer, 0.1)


def test_monte_carlo_dropout():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1)).train()
    x = torch.randn(6, 3)
    before = model[0].running_mean.clone()
    mean, spread = mc_predict(model, x, passes=1000)
    assert model[0].training
    assert torch.equal(model[0].running_mean, before)
    w = model[2].weight.detach()
    normed = (x / math.sqrt(1 + 1e-5)).detach()
    still = model.eval()(x).detach()
    wanted = (normed.square() @ w.square().T).sqrt()  # Σ w²x² p/(1-p), p = 1/2
    torch.testing.assert_close(mean, still, rtol=0, atol=float(5 * wanted.max() / math.sqrt(1000)))
    torch.testing.assert_close(spread, wanted, rtol=0.15, atol=0)
    with pytest.raises(ValueError, match="at least 2 passes, got 1"):
        mc_predict(model, x, 1)
    with pytest.raises(ValueError, match="no module of dropout"):
        mc_predict(nn.Linear(3, 1), x)
