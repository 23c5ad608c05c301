"""Soil classes from spectra with plain loops and a learning-rate schedule."""

import torch
import torch.nn as nn
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(18)
X, y = make_classification(
    n_samples=3000, n_features=24, n_informative=10, n_redundant=6, n_classes=5, class_sep=1.4, random_state=9
)
Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.25, random_state=9)
mu, sigma = Xtr.mean(0), Xtr.std(0)
to = lambda a: torch.tensor((a - mu) / sigma, dtype=torch.float32)  # noqa: E731
train_loader = DataLoader(TensorDataset(to(Xtr), torch.tensor(ytr)), batch_size=50, shuffle=True)
test_loader = DataLoader(TensorDataset(to(Xte), torch.tensor(yte)), batch_size=250)

model = nn.Sequential(nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 5))
loss_function = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=15, gamma=0.3)

for epoch in range(30):
    model.train()
    running = 0.0
    for inputs, labels in train_loader:
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = loss_function(outputs, labels)
        loss.backward()
        running += loss.item()
    optimizer.step()
    scheduler.step()

    model.eval()
    correct = total = 0
    with torch.no_grad():
        for inputs, labels in test_loader:
            correct += (model(inputs).argmax(1) == labels).sum().item()
            total += len(labels)
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} loss {running / len(train_loader):.4f} test accuracy {correct / total:.4f}")
