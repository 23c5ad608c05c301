import numpy as np
import torch

torch.manual_seed(0)
torch.set_num_threads(1)
rng = np.random.default_rng(0)

# Friedman #1 style surface, full batch, L-BFGS with strong Wolfe line search
N = 1200
X = rng.uniform(0, 1, (N, 5)).astype("float32")
y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
y = (y + rng.normal(0, 0.5, N)).astype("float32")
X = torch.from_numpy(X) * 2 - 1
y = torch.from_numpy(y)
mean, std = y[:800].mean(), y[:800].std()
Xtr, ytr = X[:800], (y[:800] - mean) / std
Xte, yte = X[800:], (y[800:] - mean) / std

net = torch.nn.Sequential(torch.nn.Linear(5, 24), torch.nn.Tanh(), torch.nn.Linear(24, 24), torch.nn.Tanh(), torch.nn.Linear(24, 1))
opt = torch.optim.LBFGS(net.parameters(), lr=1.0, max_iter=10, history_size=20, line_search_fn="strong_wolfe")
l2 = 1e-4


def closure():
    opt.zero_grad()
    pred = net(Xtr).squeeze(1)
    loss = torch.nn.functional.mse_loss(pred, ytr)
    reg = sum((p ** 2).sum() for p in net.parameters())
    total = loss + l2 * reg
    total.backward()
    return total


for it in range(1, 41):
    loss = opt.step(closure)
    if it % 5 == 0:
        with torch.no_grad():
            res = net(Xte).squeeze(1) - yte
            r2 = 1 - res.pow(2).mean() / yte.var()
        print(f"outer iter {it:3d} objective {loss.item():.5f} test R2 {r2.item():.4f}")
