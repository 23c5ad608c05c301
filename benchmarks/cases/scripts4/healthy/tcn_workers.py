"""Temporal convolution over river levels, windows cut by worker processes and gathered by a collate function."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, Dataset


class Levels(Dataset):
    def __init__(self, lo, hi, window=32, ahead=4):
        rng = np.random.default_rng(0)
        rain = rng.gamma(0.3, 2.0, 3000)
        level = np.zeros(3000)
        for t in range(6, 3000):
            level[t] = 0.9 * level[t - 1] + 0.3 * rain[t - 5] + 0.02 * rng.standard_normal()
        series = np.stack([np.log1p(rain), level], 1)
        mean, std = series[:2200].mean(0), series[:2200].std(0)
        self.series = ((series - mean) / std).astype(np.float32)
        self.lo, self.hi, self.window, self.ahead = lo, hi, window, ahead

    def __len__(self):
        return self.hi - self.lo - self.window - self.ahead

    def __getitem__(self, i):
        s = self.lo + i
        return {"past": self.series[s : s + self.window], "next": self.series[s + self.window + self.ahead - 1, 1]}


def gather(items):
    past = torch.from_numpy(np.stack([item["past"] for item in items])).transpose(1, 2)
    return {"past": past, "next": torch.tensor([item["next"] for item in items]), "last": past[:, 1, -1]}


class Causal(nn.Module):
    def __init__(self, i, o, dilation):
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.conv = weight_norm(nn.Conv1d(i, o, 3, dilation=dilation))
        self.skip = nn.Conv1d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x):
        return torch.relu(self.conv(self.pad(x)) + self.skip(x))


class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Causal(2, 16, 1), Causal(16, 16, 2), Causal(16, 16, 4))
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.layers(x)[:, :, -1]).squeeze(1)


if __name__ == "__main__":
    torch.manual_seed(0)
    train = DataLoader(Levels(0, 2200), batch_size=64, shuffle=True, num_workers=2, collate_fn=gather, persistent_workers=True)
    val = DataLoader(Levels(2200, 3000), batch_size=256, collate_fn=gather)
    model = TCN()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(10):
        model.train()
        total = 0.0
        for batch in train:
            loss = nn.functional.mse_loss(model(batch["past"]), batch["next"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            rows = [(model(b["past"]), b["next"], b["last"]) for b in val]
        mse = torch.cat([(p - t) ** 2 for p, t, _ in rows]).mean()
        naive = torch.cat([(n - t) ** 2 for _, t, n in rows]).mean()
        print(f"epoch {epoch + 1} train {total / len(train):.4f} val mse {mse:.4f} (persistence {naive:.4f})")
