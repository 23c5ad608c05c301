"""The proximal L1 against scikit-learn's Lasso, where the support is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from levelhead.regularizers import L1, ElasticNet

sklearn = pytest.importorskip("sklearn.linear_model")


def problem(seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(200, 100))
    truth = np.zeros(100)
    truth[random.choice(100, 8, replace=False)] = random.choice([-1, 1], 8) * random.uniform(0.5, 2, 8)
    return x, x @ truth + 0.3 * random.normal(size=200), truth != 0


def descend(x, y, penalty):
    model = nn.Linear(100, 1, bias=False, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=len(x) / np.linalg.norm(x, 2) ** 2)
    penalty.attach(optimizer)
    inputs, targets = torch.tensor(x), torch.tensor(y)[:, None]
    for _ in range(400):
        optimizer.zero_grad()
        (0.5 * nn.functional.mse_loss(model(inputs), targets)).backward()
        optimizer.step()
    return model.weight.detach().numpy()[0]


def f1(found, right):
    return 2 * (found & right).sum() / (found.sum() + right.sum())


@pytest.mark.parametrize("seed", range(3))
def test_lasso(seed):
    x, y, support = problem(seed)
    ours = descend(x, y, L1(0.1))
    theirs = sklearn.Lasso(alpha=0.1, fit_intercept=False, tol=1e-10).fit(x, y).coef_

    def objective(w):
        return 0.5 * np.mean((y - x @ w) ** 2) + 0.1 * np.abs(w).sum()

    assert abs(objective(ours) - objective(theirs)) < 1e-8  # linear convergence: 400 steps are far past 1e-4
    assert np.array_equal(ours != 0, theirs != 0)
    assert f1(ours != 0, support) >= 0.9
    # The negative control: the same descent without the penalty finds no support at all.
    assert f1(descend(x, y, L1(0.0)) != 0, support) < 0.2


def test_elastic_net():
    x, y, _ = problem(3)
    ours = descend(x, y, ElasticNet(0.1 * 0.7, 0.1 * 0.3))
    theirs = sklearn.ElasticNet(alpha=0.1, l1_ratio=0.7, fit_intercept=False, tol=1e-10).fit(x, y).coef_
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
