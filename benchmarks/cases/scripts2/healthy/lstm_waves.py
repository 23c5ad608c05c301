"""Classify synthetic waveforms (sine / square / sawtooth / chirp) with an LSTM."""
import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def make_waves(n, length=50, seed=0):
    g = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, 1, length).unsqueeze(0)
    cls = torch.randint(0, 4, (n,), generator=g)
    freq = 2 + 3 * torch.rand(n, 1, generator=g)
    phase = torch.rand(n, 1, generator=g)
    arg = freq * t + phase
    sine = torch.sin(2 * math.pi * arg)
    square = torch.sign(sine)
    saw = 2 * (arg - torch.floor(arg)) - 1
    chirp = torch.sin(2 * math.pi * (freq * t * (0.4 + 1.6 * t) + phase))
    waves = torch.stack([sine, square, saw, chirp], 1)[torch.arange(n), cls]
    waves = waves + 0.2 * torch.randn(n, length, generator=g)
    return waves.unsqueeze(-1), cls


class LSTMClassifier(nn.Module):
    def __init__(self, hidden=32, classes=4):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x):
        out, (h, c) = self.lstm(x)
        return self.fc(out.mean(dim=1))


class Trainer:
    def __init__(self, model, train_loader, val_loader, lr):
        self.model, self.train_loader, self.val_loader = model, train_loader, val_loader
        self.opt = torch.optim.Adam(model.parameters(), lr=lr)
        self.crit = nn.CrossEntropyLoss()

    def run_epoch(self, loader, train):
        self.model.train(train)
        loss_sum, correct, n = 0.0, 0, 0
        with torch.set_grad_enabled(train):
            for x, y in loader:
                logits = self.model(x)
                loss = self.crit(logits, y)
                if train:
                    self.opt.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                    self.opt.step()
                loss_sum += loss.item() * len(x)
                correct += (logits.argmax(1) == y).sum().item()
                n += len(x)
        return loss_sum / n, correct / n

    def fit(self, epochs):
        for e in range(1, epochs + 1):
            tl, ta = self.run_epoch(self.train_loader, True)
            vl, va = self.run_epoch(self.val_loader, False)
            print(f"Epoch {e:02d} | train {tl:.4f}/{ta:.3f} | val {vl:.4f}/{va:.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train = DataLoader(TensorDataset(*make_waves(1600, seed=0)), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(*make_waves(400, seed=1)), batch_size=200)
    Trainer(LSTMClassifier(), train, val, lr=5e-3).fit(14)
