"""Which of 200 columns matter? A linear map trained with an attached L1 penalty finds out, to exact zeros.

Plain gradient descent with `L1(λ).attach(optimizer)` is the proximal gradient method: it solves the Lasso, as
scikit-learn does, and the same line works on any network with any optimizer.

Run: python examples/sparse_regression.py
"""

import numpy as np
import torch
from sklearn.linear_model import Lasso
from torch import nn

import levelhead as lh

STRENGTH = 0.1
random = np.random.default_rng(0)
x = random.normal(size=(400, 200))
truth = np.zeros(200)
truth[random.choice(200, 10, replace=False)] = random.choice([-1, 1], 10) * random.uniform(0.5, 2, 10)
y = x @ truth + 0.5 * random.normal(size=400)


def objective(w: np.ndarray) -> float:
    """What both minimize: half the mean squared error, and λ times the sum of absolute values."""
    return float(0.5 * np.mean((y - x @ w) ** 2) + STRENGTH * np.abs(w).sum())


inputs, targets = torch.tensor(x), torch.tensor(y)[:, None]
model = nn.Linear(200, 1, bias=False, dtype=torch.float64)
optimizer = torch.optim.SGD(model.parameters(), lr=400 / np.linalg.norm(x, 2) ** 2)  # 1 / the largest curvature
attached = lh.regularizers.L1(STRENGTH).attach(optimizer)
for _ in range(500):
    optimizer.zero_grad()
    (0.5 * nn.functional.mse_loss(model(inputs), targets)).backward()
    optimizer.step()

ours = model.weight.detach().numpy()[0]
theirs = Lasso(alpha=STRENGTH, fit_intercept=False, tol=1e-10).fit(x, y).coef_
for name, w in (("levelhead", ours), ("scikit-learn", theirs)):
    found, right = w != 0, truth != 0
    f1 = 2 * (found & right).sum() / (found.sum() + right.sum())
    print(f"{name:12}  objective {objective(w):.8f}  not zero {found.sum():3}  F1 of the support {f1:.3f}")
print("exact zeros: {} of {}".format(*attached.zeros()))
assert abs(objective(ours) - objective(theirs)) < 1e-4
assert np.array_equal(ours != 0, theirs != 0)
