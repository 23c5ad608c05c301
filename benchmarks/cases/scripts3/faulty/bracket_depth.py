"""A transformer encoder that says how deep a string of brackets goes at most (1 to 4)."""
import random

import torch
import torch.nn as nn

LENGTH = 16


def sample(rng):
    depth, best, out = 0, 0, []
    for left in range(LENGTH, 0, -1):
        if depth == 0 or (depth < min(4, left - 1) and rng.random() < 0.5):
            out.append(1)
            depth += 1
        else:
            out.append(2)
            depth -= 1
        best = max(best, depth)
    return out, best - 1


def dataset(n, seed):
    rng = random.Random(seed)
    per, x, y = {c: 0 for c in range(4)}, [], []
    while len(x) < n:
        s, c = sample(rng)
        if per[c] < n // 4:
            per[c] += 1
            x.append(s)
            y.append(c)
    order = list(range(n))
    rng.shuffle(order)
    return torch.tensor(x)[order], torch.tensor(y)[order]


class DepthNet(nn.Module):
    def __init__(self, dim=32, dropout=0.9):
        super().__init__()
        self.tok = nn.Embedding(3, dim)
        self.pos = nn.Parameter(0.02 * torch.randn(LENGTH, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 64, dropout=dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.cls = nn.Linear(dim, 4)

    def forward(self, x):
        return self.cls(self.encoder(self.tok(x) + self.pos).amax(1))


class Experiment:
    def __init__(self):
        torch.manual_seed(10)
        self.model = DepthNet()
        self.train_data, self.test_data = dataset(2000, 0), dataset(400, 1)
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=2e-3, weight_decay=0.01)
        self.loss = nn.CrossEntropyLoss()

    def epoch(self):
        self.model.train()
        x, y = self.train_data
        total = 0.0
        for i in torch.randperm(len(x)).split(64):
            loss = self.loss(self.model(x[i]), y[i])
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            total += loss.item() * len(i)
        return total / len(x)

    def test(self):
        self.model.eval()
        with torch.no_grad():
            x, y = self.test_data
            return (self.model(x).argmax(-1) == y).float().mean().item()


if __name__ == "__main__":
    e = Experiment()
    for n in range(12):
        print(f"epoch {n} loss {e.epoch():.4f} test accuracy {e.test():.4f}")
