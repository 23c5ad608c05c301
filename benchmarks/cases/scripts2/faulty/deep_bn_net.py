"""Deep narrow batch-norm network on digits."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset


def block(i, o):
    return nn.Sequential(nn.Linear(i, o, bias=False), nn.BatchNorm1d(o), nn.ReLU())


class DeepNet(nn.Module):
    def __init__(self, depth=10, width=48):
        super().__init__()
        self.stem = block(64, width)
        self.body = nn.Sequential(*[block(width, width) for _ in range(depth)])
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(self.stem(x)))


class Experiment:
    def __init__(self, lr=0.05, batch_size=64):
        X, y = load_digits(return_X_y=True)
        X = (X - X.mean()) / X.std()
        a, b, c, d = train_test_split(X, y, test_size=300, random_state=0)
        self.train_loader = DataLoader(TensorDataset(torch.tensor(a).float(), torch.tensor(c)),
                                       batch_size=batch_size, shuffle=True, drop_last=True)
        self.x_val, self.y_val = torch.tensor(b).float(), torch.tensor(d)
        self.model = DeepNet()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
        self.criterion = nn.CrossEntropyLoss()

    def validate(self):
        self.model.eval()
        with torch.no_grad():
            logits = self.model(self.x_val)
            return (logits.argmax(1) == self.y_val).float().mean().item()

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def run(self, epochs):
        print(f"initial accuracy {self.validate():.3f}")
        for epoch in range(1, epochs + 1):
            losses = []
            for x, y in self.train_loader:
                losses.append(self.step(x, y))
            print(f"epoch {epoch:2d}  loss {sum(losses) / len(losses):.4f}  val acc {self.validate():.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    Experiment().run(20)
