"""Forecasting the next value of a noisy sum of sines with an LSTM; workers load the windows."""

import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset


class Windows(Dataset):
    def __init__(self, series, length=24):
        self.series, self.length = series, length

    def __len__(self):
        return len(self.series) - self.length

    def __getitem__(self, i):
        return self.series[i : i + self.length].unsqueeze(1), self.series[i + self.length]


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        output, _ = self.lstm(x)
        return self.head(output[:, -1]).squeeze(-1)


def main():
    torch.manual_seed(0)
    t = torch.arange(1600) / 8.0
    series = torch.sin(t) + 0.5 * torch.sin(2.3 * t) + 0.05 * torch.randn(len(t))
    series = (series - series[:1200].mean()) / series[:1200].std()
    train_loader = DataLoader(Windows(series[:1200]), batch_size=64, shuffle=True, num_workers=2)
    val_loader = DataLoader(Windows(series[1200:]), batch_size=128)
    model, criterion = Forecaster(), nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = StepLR(optimizer, 5, 0.5)
    for epoch in range(8):
        model.train()
        for window, following in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(window), following)
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            losses = [criterion(model(w), f).item() for w, f in val_loader]
        print(f"epoch {epoch}: val mse {sum(losses) / len(losses):.4f}")


if __name__ == "__main__":
    main()
