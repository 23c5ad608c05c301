"""GraphSAGE-like message passing over molecules-like rings: which ring carries a bridge of three marked atoms in a row?"""

import torch
from torch import nn


def ring(gen):
    n = int(torch.randint(8, 15, (1,), generator=gen))
    kinds = (torch.rand(n, generator=gen) < 0.4).long()
    run = (kinds * kinds.roll(1) * kinds.roll(2)).any()
    i = torch.arange(n)
    edges = torch.cat([torch.stack([i, (i + 1) % n]), torch.stack([(i + 1) % n, i])], 1)
    return kinds, edges, run.long()


def batch(graphs):
    kinds, edges, owner, offset = [], [], [], 0
    for g, (k, e, _) in enumerate(graphs):
        kinds.append(k)
        edges.append(e + offset)
        owner.append(torch.full((len(k),), g))
        offset += len(k)
    return torch.cat(kinds), torch.cat(edges, 1), torch.cat(owner), torch.stack([y for _, _, y in graphs])


class SageLayer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.own, self.near = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, h, edges):
        src, dst = edges
        total = torch.zeros_like(h).index_add_(0, dst, h[src])
        degree = torch.zeros(len(h)).index_add_(0, dst, torch.ones(len(src))).clamp(min=1)
        return h + torch.relu(self.norm(self.own(h) + self.near(total / degree[:, None])))


class RingNet(nn.Module):
    def __init__(self, dim=48, depth=3):
        super().__init__()
        self.atoms = nn.Embedding(2, dim)
        self.layers = nn.ModuleList(SageLayer(dim) for _ in range(depth))
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 2))

    def forward(self, kinds, edges, owner):
        h = self.atoms(kinds)
        for layer in self.layers:
            h = layer(h, edges)
        pooled = torch.full((int(owner[-1]) + 1, h.shape[1]), -1e9)
        pooled = pooled.index_reduce(0, owner, h, "amax", include_self=False)
        return self.out(pooled)


torch.manual_seed(0)
gen = torch.Generator().manual_seed(5)
train, test = [ring(gen) for _ in range(1500)], batch([ring(gen) for _ in range(500)])
model = RingNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(12):
    model.train()
    order, total = torch.randperm(len(train)).tolist(), 0.0
    for i in range(0, len(order), 50):
        kinds, edges, owner, y = batch([train[j] for j in order[i : i + 50]])
        loss = nn.functional.cross_entropy(model(kinds, edges, owner), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * 50
    model.eval()
    with torch.no_grad():
        acc = (model(*test[:3]).argmax(1) == test[3]).float().mean()
    most = max(test[3].float().mean().item(), 1 - test[3].float().mean().item())
    print(f"epoch {epoch + 1} loss {total / len(train):.4f} test acc {acc:.4f} (majority {most:.4f})")
