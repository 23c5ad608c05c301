"""Digits collected class by class, trained with plain SGD."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def collect(n_test_per_class=40):
    d = load_digits()
    x = torch.tensor(d.data, dtype=torch.float32) / 16
    y = torch.tensor(d.target)
    xs, ys, xt, yt = [], [], [], []
    for c in range(10):
        rows = torch.where(y == c)[0]
        xt.append(x[rows[:n_test_per_class]])
        yt.append(y[rows[:n_test_per_class]])
        xs.append(x[rows[n_test_per_class:]])
        ys.append(y[rows[n_test_per_class:]])
    return (torch.cat(xs), torch.cat(ys)), (torch.cat(xt), torch.cat(yt))


def train_one_epoch(net, loader, opt, loss_fn):
    net.train()
    total = 0.0
    for xb, yb in loader:
        opt.zero_grad()
        loss = loss_fn(net(xb), yb)
        loss.backward()
        opt.step()
        total += loss.item() * len(xb)
    return total / len(loader.dataset)


@torch.no_grad()
def test(net, loader):
    net.eval()
    hits = sum((net(xb).argmax(1) == yb).sum().item() for xb, yb in loader)
    return hits / len(loader.dataset)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, held_out = collect()
    train_loader = DataLoader(TensorDataset(*train), batch_size=16)
    test_loader = DataLoader(TensorDataset(*held_out), batch_size=100)
    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(15):
        loss = train_one_epoch(net, train_loader, opt, loss_fn)
        print(f"epoch {epoch + 1} loss {loss:.4f} test acc {test(net, test_loader):.3f}")


if __name__ == "__main__":
    main()
