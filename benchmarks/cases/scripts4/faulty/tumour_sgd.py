# Breast cancer table: a two-layer network trained with plain SGD.
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn, optim

torch.manual_seed(2)
rng = np.random.default_rng(2)

table = load_breast_cancer()
xtr, xte, ytr, yte = train_test_split(table.data, table.target, test_size=0.3, random_state=1, stratify=table.target)
scaler = StandardScaler().fit(xtr)
xtr = torch.from_numpy(scaler.transform(xtr)).float()
xte = torch.from_numpy(scaler.transform(xte)).float()
ytr = torch.from_numpy(ytr)
yte = torch.from_numpy(yte)

net = nn.Sequential(nn.Linear(30, 64), nn.Tanh(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 2))
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
criterion = nn.CrossEntropyLoss()

BATCH = 32
for epoch in range(60):
    perm = rng.permutation(len(xtr))
    total = 0.0
    for start in range(0, len(perm), BATCH):
        idx = perm[start : start + BATCH]
        optimizer.zero_grad
        output = net(xtr[idx])
        loss = criterion(output, ytr[idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 10 == 9:
        with torch.no_grad():
            test = net(xte)
            acc = (test.argmax(1) == yte).float().mean().item()
            print(
                f"epoch {epoch + 1} train loss {total / len(xtr):.4f} "
                f"test loss {criterion(test, yte).item():.4f} test acc {acc:.4f}"
            )
