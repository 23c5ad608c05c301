"""SimSiam on two noisy views of digits: no negatives, one side without gradient, a loss between -1 and 0."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn


def augment(x):
    n = len(x)
    shift = [torch.roll(x, (dy, dx), (2, 3)) for dy, dx in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))]
    pick = torch.randint(5, (n,))
    x = torch.stack(shift, 1)[torch.arange(n), pick]
    gain = 0.7 + 0.6 * torch.rand(n, 1, 1, 1)
    return x * gain + 0.15 * torch.randn_like(x)


class SimSiam(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.projector = nn.Sequential(
            nn.Linear(512, dim), nn.BatchNorm1d(dim), nn.ReLU(), nn.Linear(dim, dim), nn.BatchNorm1d(dim, affine=False)
        )
        self.predictor = nn.Sequential(nn.Linear(dim, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, dim))

    def forward(self, a, b):
        za, zb = self.projector(self.encoder(a)), self.projector(self.encoder(b))
        pa, pb = self.predictor(za), self.predictor(zb)
        return -(F.cosine_similarity(pa, zb.detach()).mean() + F.cosine_similarity(pb, za.detach()).mean()) / 2


def probe(model, x, y, cut):
    model.eval()
    with torch.no_grad():
        z = model.projector(model.encoder(x)).numpy()
    return LogisticRegression(max_iter=300).fit(z[:cut][:200], y[:cut][:200]).score(z[cut:], y[cut:])


torch.manual_seed(0)
d = load_digits()
perm = torch.randperm(len(d.target))
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1)[perm] / 8 - 1
y = d.target[perm.numpy()]
model = SimSiam()
print(f"probe of the untrained network {probe(model, x, y, 1300):.4f}")
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
for epoch in range(30):
    model.train()
    total = 0.0
    batches = torch.randperm(1300).split(100)
    for idx in batches:
        loss = model(augment(x[idx]), augment(x[idx]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    scheduler.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} loss {total / len(batches):.4f} probe accuracy {probe(model, x, y, 1300):.4f}")
