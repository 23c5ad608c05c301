"""Free parking spaces by hour, weather and district; dropout for regularization."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def observations(n, gen):
    hour = torch.rand(n, generator=gen) * 24
    rain = (torch.rand(n, generator=gen) < 0.3).float()
    district = torch.randint(6, (n,), generator=gen)
    base = torch.tensor([120.0, 80.0, 60.0, 200.0, 150.0, 40.0])[district]
    free = base * (1 + 0.5 * torch.cos(2 * math.pi * (hour - 3 - district) / 24)) - 25 * rain
    free = free + 6 * torch.randn(n, generator=gen)
    x = torch.cat(
        [
            torch.sin(2 * math.pi * hour / 24)[:, None],
            torch.cos(2 * math.pi * hour / 24)[:, None],
            rain[:, None] - 0.3,
            F.one_hot(district, 6).float(),
        ],
        1,
    )
    return x, free[:, None]


class ParkingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(9, 128)
        self.fc2 = nn.Linear(128, 128)
        self.fc3 = nn.Linear(128, 1)

    def forward(self, x):
        x = F.dropout(F.relu(self.fc1(x)), p=0.2)
        x = F.dropout(F.relu(self.fc2(x)), p=0.2)
        return self.fc3(x)


torch.manual_seed(8)
gen = torch.Generator().manual_seed(8)
xtr, ytr = observations(3000, gen)
xte, yte = observations(1000, gen)
mean, std = ytr.mean(), ytr.std()
loader = DataLoader(TensorDataset(xtr, (ytr - mean) / std), batch_size=64, shuffle=True)
model = ParkingNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(30):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        rmse = ((model(xte) * std + mean - yte) ** 2).mean().sqrt().item()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} train loss {total / len(loader):.4f} test rmse {rmse:.2f} spaces")
