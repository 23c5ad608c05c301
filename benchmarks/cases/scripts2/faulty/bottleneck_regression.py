"""MLP with a small bottleneck on a synthetic regression problem."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class MixBlock(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.lin = nn.Linear(i, o)
        self.act = nn.Tanh()

    def forward(self, x):
        return self.act(self.lin(x))


class Net(nn.Module):
    def __init__(self, n_in, widths=(24, 24, 6)):
        super().__init__()
        self.blocks = []
        d = n_in
        for w in widths:
            self.blocks.append(MixBlock(d, w))
            d = w
        self.head = nn.Linear(d, 1)

    def forward(self, x):
        for b in self.blocks:
            x = b(x)
        return self.head(x)


def make(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=g)
    y = torch.sin(2 * x[:, 0]) * x[:, 1] + 0.5 * x[:, 2] ** 2 - x[:, 3] + 0.05 * torch.randn(n, generator=g)
    return x, ((y - 0.5) / 1.4).unsqueeze(1)


def main():
    torch.manual_seed(2)
    torch.set_num_threads(1)
    train_dl = DataLoader(TensorDataset(*make(3000, 0)), batch_size=50, shuffle=True)
    xt, yt = make(800, 1)
    net = Net(6)
    opt = torch.optim.Adam(net.parameters(), lr=5e-3)
    loss_fn = nn.MSELoss()
    for ep in range(30):
        tot = 0.0
        for x, y in train_dl:
            loss = loss_fn(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            tot += loss.item() * len(x)
        if ep % 3 == 2:
            with torch.no_grad():
                r2 = 1 - (net(xt) - yt).pow(2).mean() / yt.var()
            print(f"epoch {ep + 1} train mse {tot / 3000:.4f} test R2 {r2.item():.4f}")


if __name__ == "__main__":
    main()
