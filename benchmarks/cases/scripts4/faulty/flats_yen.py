"""Rents of flats in yen from size, age, distance and floor; SGD on a small network."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


def flats(n, gen):
    size = torch.rand(n, generator=gen) * 70 + 15
    age = torch.rand(n, generator=gen) * 40
    walk = torch.rand(n, generator=gen) * 20
    floor = torch.randint(1, 15, (n,), generator=gen).float()
    rent = 1900 * size * torch.exp(-0.012 * age) * (1 - 0.015 * walk) + 900 * floor.sqrt() * size.sqrt()
    rent = rent + 4000 * torch.randn(n, generator=gen)
    x = torch.stack([size, age, walk, floor], 1)
    return (x - x.mean(0)) / x.std(0), rent


class RentNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.price = nn.Linear(32, 1)

    def forward(self, x):
        return self.price(self.hidden(x)).flatten()


def main():
    torch.manual_seed(16)
    x, rent = flats(3000, torch.Generator().manual_seed(16))
    data = TensorDataset(x, rent)
    train, test = random_split(data, [2400, 600])
    loader = DataLoader(train, batch_size=48, shuffle=True)
    xte, rte = x[test.indices], rent[test.indices]
    model = RentNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(25):
        model.train()
        for xb, rb in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(xb), rb)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            mae = (model(xte) - rte).abs().mean().item()
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1} loss {loss.item():.1f} test mean error {mae:.0f} yen (spread {rte.std():.0f})")


main()
