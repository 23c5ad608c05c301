"""A small convolutional network on digits, with a Trainer class that keeps the best checkpoint."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(self.drop(x.flatten(1)))


class Trainer:
    def __init__(self, model, train_loader, val_loader, lr=0.05):
        self.model = model
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.best = float("inf")

    def train_epoch(self):
        self.model.train()
        for images, labels in self.train_loader:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        total, correct, count = 0.0, 0, 0
        for images, labels in self.val_loader:
            out = self.model(images)
            total += F.cross_entropy(out, labels, reduction="sum").item()
            correct += (out.argmax(1) == labels).sum().item()
            count += len(labels)
        return total / count, correct / count

    def fit(self, epochs):
        for epoch in range(epochs):
            self.train_epoch()
            loss, accuracy = self.validate()
            print(f"{epoch}: {loss:.4f} {accuracy:.3f}")
            if loss < self.best:
                self.best = loss
                torch.save(self.model.state_dict(), "best.pt")


def main():
    torch.manual_seed(3)
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    images = (images - 0.305) / 0.376
    data = TensorDataset(images, torch.tensor(digits.target))
    train, val = random_split(data, [1400, len(data) - 1400])
    trainer = Trainer(Net(), DataLoader(train, 64, shuffle=True, drop_last=True), DataLoader(val, 128))
    trainer.fit(6)


if __name__ == "__main__":
    main()
