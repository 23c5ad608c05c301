"""Tag products with any of twelve labels from bag-of-words counts."""

import torch
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class TagNet(nn.Module):
    def __init__(self, n_words, n_tags, hidden=96):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_words, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(hidden, n_tags), nn.Sigmoid())

    def forward(self, x):
        return self.out(self.body(x))


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.criterion = nn.BCEWithLogitsLoss()

    def fit(self, loader, epochs):
        for epoch in range(epochs):
            self.model.train()
            total = 0.0
            for x, y in loader:
                loss = self.criterion(self.model(x), y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.item() * len(x)
            print(f"epoch {epoch} loss {total / len(loader.dataset):.4f}")

    @torch.no_grad()
    def f1(self, x, y):
        self.model.eval()
        pred = torch.sigmoid(self.model(x)) > 0.5
        return f1_score(y.numpy(), pred.numpy(), average="micro")


torch.manual_seed(11)
words, tags = make_multilabel_classification(
    n_samples=4000, n_features=60, n_classes=12, n_labels=3, length=80, random_state=3
)
words = torch.tensor(words, dtype=torch.float32)
tags = torch.tensor(tags, dtype=torch.float32)
xtr, xte, ytr, yte = train_test_split(words, tags, test_size=0.25, random_state=0)
mean, std = xtr.mean(0), xtr.std(0) + 1e-6
xtr, xte = (xtr - mean) / std, (xte - mean) / std

trainer = Trainer(TagNet(60, 12), lr=1e-3)
trainer.fit(DataLoader(TensorDataset(xtr, ytr), batch_size=64, shuffle=True), epochs=20)
print(f"test micro f1 {trainer.f1(xte, yte):.4f}")
