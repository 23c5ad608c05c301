"""Fit a noisy 2d function with a small net."""
import torch
import torch.nn as nn


def target_fn(x):
    return torch.sin(3 * x[:, :1]) + 0.5 * torch.cos(4 * x[:, 1:2]) * x[:, :1]


def make_data(n, gen):
    x = torch.rand(n, 2, generator=gen) * 2 - 1
    return x, target_fn(x) + 0.05 * torch.randn(n, 1, generator=gen)


def train(model, x, y, epochs, batch_size, lr):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    loss_fn = nn.MSELoss()
    for epoch in range(1, epochs + 1):
        perm = torch.randperm(len(x))
        total = 0.0
        for i in range(0, len(x), batch_size):
            j = perm[i:i + batch_size]
            pred = model(x[j])
            loss = loss_fn(pred, y[j])
            loss.backward()
            opt.step()
            total += loss.item() * len(j)
        if epoch % 5 == 0:
            print(f"epoch {epoch:3d} mse {total / len(x):.5f}")


def r2(model, x, y):
    with torch.no_grad():
        return (1 - ((model(x) - y) ** 2).mean() / y.var()).item()


if __name__ == "__main__":
    torch.manual_seed(42)
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(1)
    xtr, ytr = make_data(2000, g)
    xte, yte = make_data(500, g)
    net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    train(net, xtr, ytr, epochs=40, batch_size=50, lr=0.02)
    print(f"test R2 {r2(net, xte, yte):.4f}")
