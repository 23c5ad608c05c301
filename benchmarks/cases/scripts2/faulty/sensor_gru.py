"""Classify multichannel sensor recordings; raw recordings are stored time-major."""
import torch
import torch.nn as nn

STEPS, CHANNELS, CLASSES = 20, 3, 4


def record(n, seed):
    """Returns an array of shape (time, n, channel), as the logger writes it, and one label per recording."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, CLASSES, (n,), generator=g)
    t = torch.arange(STEPS).float()[:, None]
    freq = torch.tensor([0.3, 0.6, 1.0, 1.5])[label][None]
    phase = 6.28 * torch.rand(1, n, generator=g)
    base = torch.sin(freq * t + phase)
    chans = torch.stack([base, torch.cos(freq * t + phase), 0.5 * base], -1)
    return chans + 0.3 * torch.randn(STEPS, n, CHANNELS, generator=g), label


class GRUClassifier(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(CHANNELS, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, CLASSES)

    def forward(self, x):
        _, h = self.gru(x)
        return self.fc(h[-1])


def to_batch_first(rec):
    return rec.reshape(rec.shape[1], STEPS, CHANNELS)


class Trainer:
    def __init__(self):
        rec, self.y = record(1500, 0)
        self.x = to_batch_first(rec)
        rec, self.yv = record(400, 1)
        self.xv = to_batch_first(rec)
        self.model = GRUClassifier()
        self.opt = torch.optim.Adam(self.model.parameters(), lr=5e-3)
        self.loss_fn = nn.CrossEntropyLoss()

    def epoch(self):
        self.model.train()
        total = 0.0
        for idx in torch.randperm(len(self.x)).split(50):
            loss = self.loss_fn(self.model(self.x[idx]), self.y[idx])
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            total += loss.item() * len(idx)
        return total / len(self.x)

    def validate(self):
        self.model.eval()
        with torch.no_grad():
            return (self.model(self.xv).argmax(1) == self.yv).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    trainer = Trainer()
    for e in range(10):
        print(f"epoch {e + 1} loss {trainer.epoch():.4f} val acc {trainer.validate():.3f}")
