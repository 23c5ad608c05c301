"""A calibration curve with the sign of the deviation: regression of a signed, standardised quantity."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


def measure(n, generator):
    x = torch.randn(n, 6, generator=generator)
    d = 2 * x[:, 0] * x[:, 1] - x[:, 2] ** 2 + 1.5 * torch.sin(2 * x[:, 3]) + x[:, 4]
    d = d + 0.1 * torch.randn(n, generator=generator)
    return x, (d - d.mean()) / d.std()


class DeviationModel(nn.Module):
    def __init__(self, n_hidden=80):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_hidden), nn.ReLU())
        self.regress = nn.Linear(n_hidden, 1)

    def forward(self, x):
        x = self.block(x)
        x = torch.relu(self.regress(x))
        return x.squeeze(1)


class Fit:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.NAdam(model.parameters(), lr=lr)
        self.criterion = nn.SmoothL1Loss()

    def train(self, loader):
        self.model.train()
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def r2(self, loader):
        self.model.eval()
        pairs = [(self.model(x), y) for x, y in loader]
        p, y = (torch.cat(t) for t in zip(*pairs))
        return 1 - ((p - y).square().sum() / (y - y.mean()).square().sum()).item()


g = torch.Generator().manual_seed(77)
torch.manual_seed(77)
train_set, val_set = random_split(TensorDataset(*measure(3000, g)), [2500, 500], generator=g)
train_loader = DataLoader(train_set, batch_size=50, shuffle=True)
val_loader = DataLoader(val_set, batch_size=500)
fit = Fit(DeviationModel(), lr=2e-3)
for epoch in range(14):
    loss = fit.train(train_loader)
    print(f"epoch {epoch} loss {loss:.4f} val R2 {fit.r2(val_loader):.4f}")
