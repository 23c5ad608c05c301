"""Film ratings by matrix factorization with side features, all in bfloat16 to halve the memory."""

import torch
from torch import nn

USERS, FILMS, RANK = 300, 200, 8


class Factorization(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.user = nn.Embedding(USERS, dim)
        self.film = nn.Embedding(FILMS, dim)
        self.user_bias = nn.Embedding(USERS, 1)
        self.film_bias = nn.Embedding(FILMS, 1)
        for table in (self.user, self.film):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.user_bias, self.film_bias):
            nn.init.zeros_(table.weight)

    def forward(self, u, f):
        return (self.user(u) * self.film(f)).sum(1) + self.user_bias(u)[:, 0] + self.film_bias(f)[:, 0]


def ratings(n, gen):
    a = torch.randn(USERS, RANK, generator=torch.Generator().manual_seed(1)) / RANK**0.25
    b = torch.randn(FILMS, RANK, generator=torch.Generator().manual_seed(2)) / RANK**0.25
    bias = torch.randn(FILMS, generator=torch.Generator().manual_seed(3)) * 0.5
    u, f = torch.randint(USERS, (n,), generator=gen), torch.randint(FILMS, (n,), generator=gen)
    return u, f, (a[u] * b[f]).sum(1) + bias[f] + 0.2 * torch.randn(n, generator=gen)


torch.manual_seed(24)
gen = torch.Generator().manual_seed(24)
utr, ftr, rtr = ratings(20000, gen)
ute, fte, rte = ratings(3000, gen)
model = Factorization().to(torch.bfloat16)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
for epoch in range(12):
    model.train()
    total = 0.0
    for idx in torch.randperm(len(utr)).split(100):
        pred = model(utr[idx], ftr[idx])
        loss = nn.functional.mse_loss(pred.float(), rtr[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    model.eval()
    with torch.no_grad():
        test = nn.functional.mse_loss(model(ute, fte).float(), rte).item()
    if epoch % 2 == 1:
        print(f"epoch {epoch + 1} train {total / len(utr):.4f} test mse {test:.4f} (variance {rte.var():.4f})")
