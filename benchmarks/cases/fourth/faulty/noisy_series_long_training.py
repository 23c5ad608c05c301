"""A GRU that forecasts a noisy series from few examples.

Only 80 windows of a noisy autoregressive series are known. A GRU of 64 units passes over them 80
times and ends up knowing their noise by heart: the training error goes to nothing while the
validation error rises. The repair is a weight decay and an end after 12 epochs.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"overfitting"}
WHERE = "loop"
PLACES = {"loop", "optimizer", "gru"}


def windows(rows, length=12):
    """Separate stretches of one series with standardized values."""
    x = torch.zeros(rows, 40)
    for t in range(2, 40):
        x[:, t] = 1.2 * x[:, t - 1] - 0.5 * x[:, t - 2] + torch.randn(rows)
    x = x / 2
    return TensorDataset(x[:, -length - 1 : -1, None], x[:, -1:])


class Forecast(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 64, batch_first=True)
        self.head = nn.Linear(64, 1)

    def forward(self, x):
        states, _ = self.gru(x)
        return self.head(states[:, -1])


def build(seed, epochs, decay):
    torch.manual_seed(seed)
    model = Forecast()
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=decay),
        train=DataLoader(windows(80), batch_size=20, shuffle=True),
        val=DataLoader(windows(500), batch_size=500),
        epochs=epochs,
        score=r2,
    )


def faulty(seed):
    return build(seed, epochs=80, decay=0.0)


def fixed(seed):
    return build(seed, epochs=12, decay=0.1)
