"""Boiler efficiency with a memory-saving activation as a custom autograd function."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SwishFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * (s * (1 - s))


class Swish(nn.Module):
    def forward(self, x):
        return SwishFunction.apply(x)


def boiler(n, gen):
    x = torch.rand(n, 6, generator=gen) * 2 - 1
    y = torch.sin(3 * x[:, 0]) * x[:, 1] + x[:, 2] ** 2 - 0.5 * x[:, 3] * x[:, 4] + 0.3 * torch.cos(5 * x[:, 5])
    return x * 1.73, (y + 0.05 * torch.randn(n, generator=gen)).unsqueeze(1)


def make_model(width=64, depth=4):
    layers = [nn.Linear(6, width), Swish()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), Swish()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


if __name__ == "__main__":
    torch.manual_seed(19)
    gen = torch.Generator().manual_seed(19)
    xtr, ytr = boiler(3000, gen)
    xte, yte = boiler(1000, gen)
    mean, std = ytr.mean(), ytr.std()
    ytr, yte = (ytr - mean) / std, (yte - mean) / std
    model = make_model()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=20)
    for epoch in range(20):
        model.train()
        total = 0.0
        loader = DataLoader(TensorDataset(xtr, ytr), batch_size=50, shuffle=True)
        for x, y in loader:
            opt.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            opt.step()
            total += loss.item()
        sched.step()
        model.eval()
        with torch.no_grad():
            test = nn.functional.mse_loss(model(xte), yte).item()
        if epoch % 4 == 3:
            print(f"epoch {epoch + 1} train {total / len(loader):.4f} test mse {test:.4f}")
