"""Train a stamp recogniser and then answer requests one stamp at a time."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class StampNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 16, 3, padding=1)
        self.n1 = nn.BatchNorm2d(16)
        self.c2 = nn.Conv2d(16, 32, 3, padding=1)
        self.n2 = nn.BatchNorm2d(32)
        self.drop = nn.Dropout(0.4)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.n1(self.c1(x))), 2)
        x = F.relu(self.n2(self.c2(x))).mean((2, 3))
        return self.fc(self.drop(x))


def train(model, x, y, epochs=12, batch=50):
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    model.train()
    for epoch in range(epochs):
        perm = torch.randperm(len(x))
        total = 0.0
        for i in range(0, len(x), batch):
            b = perm[i : i + batch]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[b]), y[b])
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1} loss {total * batch / len(x):.4f}")


def serve(model, stamps):
    answers = []
    with torch.no_grad():
        for stamp in stamps:
            scores = model(stamp.unsqueeze(0))
            answers.append(int(scores.argmax()))
    return torch.tensor(answers)


torch.manual_seed(6)
data = load_digits()
images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(data.target)
perm = torch.randperm(len(images))
images, labels = images[perm], labels[perm]

model = StampNet()
train(model, images[:1400], labels[:1400])
answers = serve(model, images[1400:])
print(f"answers right {(answers == labels[1400:]).float().mean():.4f}")
