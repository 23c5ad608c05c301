"""Diabetes progression with a hand-written mean squared error."""
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split


def mse(pred, target):
    return ((pred - target) ** 2).mean()


class Net(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.hidden = nn.Linear(d, 16)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x)))


def standardise(a, ref):
    return (a - ref.mean(0)) / ref.std(0)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    X, y = load_diabetes(return_X_y=True)
    xtr, xte, ytr, yte = train_test_split(X, y, test_size=0.25, random_state=1)
    x_train = torch.tensor(standardise(xtr, xtr), dtype=torch.float32)
    y_train = torch.tensor(standardise(ytr, ytr), dtype=torch.float32)
    x_test = torch.tensor(standardise(xte, xtr), dtype=torch.float32)
    y_test = torch.tensor(standardise(yte, ytr), dtype=torch.float32)

    net = Net(10)
    opt = torch.optim.Adam(net.parameters(), lr=5e-3)
    for epoch in range(60):
        net.train()
        perm = torch.randperm(len(x_train))
        losses = []
        for idx in perm.split(32):
            pred = net(x_train[idx])
            loss = mse(pred, y_train[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        if epoch % 6 == 5:
            net.eval()
            with torch.no_grad():
                p = net(x_test).flatten()
                r2 = 1 - (p - y_test).pow(2).sum() / (y_test - y_test.mean()).pow(2).sum()
            print(f"epoch {epoch + 1}: train mse {sum(losses) / len(losses):.4f}, test R2 {r2.item():.4f}")


if __name__ == "__main__":
    main()
