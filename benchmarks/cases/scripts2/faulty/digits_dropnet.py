import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

KEEP = 0.9


class DropNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 10)
        self.dropout = nn.Dropout(KEEP)

    def forward(self, x):
        x = self.dropout(F.relu(self.fc1(x)))
        x = self.dropout(F.relu(self.fc2(x)))
        return self.fc3(x)


def batches(x, y, size):
    p = torch.randperm(len(x))
    for i in range(0, len(x), size):
        yield x[p[i:i + size]], y[p[i:i + size]]


def score(net, x, y):
    net.eval()
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


torch.manual_seed(0)
torch.set_num_threads(1)
X, y = load_digits(return_X_y=True)
xtr, xte, ytr, yte = train_test_split(torch.tensor(X).float() / 16, torch.tensor(y), test_size=0.2, random_state=0)
net = DropNet()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(20):
    net.train()
    losses = []
    for xb, yb in batches(xtr, ytr, 64):
        loss = F.cross_entropy(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f} "
          f"train acc {score(net, xtr, ytr):.3f} test acc {score(net, xte, yte):.3f}")
