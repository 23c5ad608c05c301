"""Radar profiles: a deep 1-d convolutional classifier, with a sanity pass over the validation set before training."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def profiles(n, seed):
    g = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, 1, 48)
    kind = torch.randint(4, (n,), generator=g)
    centre = 0.3 + 0.4 * torch.rand(n, 1, generator=g)
    width = torch.tensor([0.04, 0.08, 0.04, 0.08])[kind].unsqueeze(1)
    echo = (kind >= 2).float().unsqueeze(1)
    wave = torch.exp(-(((t - centre) / width) ** 2)) + echo * 0.6 * torch.exp(-(((t - centre - 0.2) / width) ** 2))
    return (wave + 0.25 * torch.randn(n, 48, generator=g)).unsqueeze(1), kind


def block(cin, cout, stride):
    return nn.Sequential(nn.Conv1d(cin, cout, 5, stride=stride, padding=2, bias=False), nn.BatchNorm1d(cout), nn.ReLU())


class ProfileNet(nn.Module):
    def __init__(self, depth=8):
        super().__init__()
        layers = [block(1, 16, 1)] + [block(16, 16, 2 if i in (2, 5) else 1) for i in range(depth)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.features(x).mean(-1))


def validate(model, loader, criterion):
    model.eval()
    loss = hits = count = 0
    with torch.no_grad():
        for x, y in loader:
            out = model(x)
            loss += criterion(out, y).item() * len(y)
            hits += (out.argmax(1) == y).sum().item()
            count += len(y)
    return loss / count, hits / count


def train_epoch(model, loader, criterion, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


def main():
    torch.manual_seed(0)
    train = DataLoader(TensorDataset(*profiles(1600, 1)), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(*profiles(800, 2)), batch_size=200)
    model = ProfileNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model.train()
    print("sanity check: val loss %.4f acc %.4f" % validate(model, val, criterion))
    for epoch in range(10):
        loss = train_epoch(model, train, criterion, optimizer)
        print(f"epoch {epoch + 1} loss {loss:.4f}", "val loss %.4f val acc %.4f" % validate(model, val, criterion))


if __name__ == "__main__":
    main()
