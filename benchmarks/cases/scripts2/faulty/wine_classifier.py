import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


class WineNet(nn.Module):
    def __init__(self, in_features=13, hidden=32, n_classes=3):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, n_classes)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def load_data(seed):
    wine = load_wine()
    X_tr, X_te, y_tr, y_te = train_test_split(
        wine.data, wine.target, test_size=0.3, stratify=wine.target, random_state=seed
    )
    to_x = lambda a: torch.tensor(a, dtype=torch.float32)
    to_y = lambda a: torch.tensor(a, dtype=torch.long)
    return to_x(X_tr), to_y(y_tr), to_x(X_te), to_y(y_te)


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--bs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)
    torch.set_num_threads(1)

    x_tr, y_tr, x_te, y_te = load_data(opt.seed)
    net = WineNet()
    sgd = torch.optim.SGD(net.parameters(), lr=opt.lr, momentum=0.9)
    for epoch in range(opt.epochs):
        net.train()
        losses = []
        for idx in torch.randperm(len(x_tr)).split(opt.bs):
            sgd.zero_grad()
            loss = F.cross_entropy(net(x_tr[idx]), y_tr[idx])
            loss.backward()
            sgd.step()
            losses.append(loss.item())
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss={sum(losses) / len(losses):.4f} "
                  f"train_acc={accuracy(net, x_tr, y_tr):.3f} test_acc={accuracy(net, x_te, y_te):.3f}")


if __name__ == "__main__":
    main()
