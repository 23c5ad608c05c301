"""A sales forecast whose LSTM gets no gradient.

Ten days of (sales, promotion) predict the next day's sales, which follow the sales of seven days
ago where a promotion ran then and yesterday's where it did not. The forward pass detaches the last
hidden state before the head, a line copied from code that carries the state over from window to
window. Only the head learns, on top of a random recurrent network. The repair drops the detach.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-detached"}
WHERE = "lstm"


class Forecast(nn.Module):
    def __init__(self, detach):
        super().__init__()
        self.detach = detach
        self.lstm = nn.LSTM(2, 32, batch_first=True)
        self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        _, (hidden, _) = self.lstm(x)
        hidden = hidden[-1]
        if self.detach:
            hidden = hidden.detach()
        return self.head(hidden)


def windows(rows):
    sales = torch.randn(rows, 10)
    promotion = (torch.rand(rows, 10) < 0.5).float()
    target = torch.where(promotion[:, 3] > 0, sales[:, 3], sales[:, 9]) + 0.1 * torch.randn(rows)
    return TensorDataset(torch.stack([sales, 2 * promotion - 1], dim=2), target[:, None])


def build(seed, detach):
    torch.manual_seed(seed)
    model = Forecast(detach)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(windows(2000), batch_size=50, shuffle=True),
        val=DataLoader(windows(400), batch_size=400),
        epochs=15,
        score=r2,
    )


def faulty(seed):
    return build(seed, detach=True)


def fixed(seed):
    return build(seed, detach=False)
