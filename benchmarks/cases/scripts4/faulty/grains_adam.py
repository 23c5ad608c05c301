"""Wheat-like kernels: seven measurements, five varieties; the settings came with an AdamW run."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CONFIG = {"lr": 2e-3, "weight_decay": 0.1, "batch_size": 40, "epochs": 25, "hidden": 64}


def kernels(n, gen):
    variety = torch.randint(5, (n,), generator=gen)
    centres = torch.randn(5, 3, generator=torch.Generator().manual_seed(8)) * 1.1
    latent = centres[variety] + torch.randn(n, 3, generator=gen) * 0.5
    mix = torch.randn(3, 7, generator=torch.Generator().manual_seed(9))
    return torch.tanh(latent @ mix * 0.4) + 0.1 * torch.randn(n, 7, generator=gen), variety


class Classifier(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.inp = nn.Linear(7, hidden)
        self.norm1 = nn.BatchNorm1d(hidden)
        self.mid = nn.Linear(hidden, hidden)
        self.norm2 = nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, 5)

    def forward(self, x):
        x = torch.relu(self.norm1(self.inp(x)))
        x = torch.relu(self.norm2(self.mid(x)))
        return self.out(x)


def main(cfg):
    torch.manual_seed(17)
    gen = torch.Generator().manual_seed(17)
    xtr, ytr = kernels(2000, gen)
    xte, yte = kernels(1000, gen)
    mean, std = xtr.mean(0), xtr.std(0)
    xtr, xte = (xtr - mean) / std, (xte - mean) / std
    loader = DataLoader(TensorDataset(xtr, ytr), cfg["batch_size"], shuffle=True)
    model = Classifier(cfg["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg["lr"], weight_decay=cfg["weight_decay"])
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, cfg["epochs"] + 1):
        model.train()
        total = 0.0
        for x, y in loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        if epoch % 5 == 0:
            model.eval()
            with torch.no_grad():
                logits = model(xte)
            print(
                f"{epoch} train loss {total / len(xtr):.4f} test loss {criterion(logits, yte).item():.4f} "
                f"test acc {(logits.argmax(1) == yte).float().mean().item():.4f}"
            )


main(CONFIG)
