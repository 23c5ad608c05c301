"""Pre-train on five digits, then adapt to all ten with the lower layers frozen."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.pool(self.act(self.conv1(x)))
        return self.pool(self.act(self.conv2(x))).flatten(1)


class Classifier(nn.Module):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.adapter = nn.Sequential(nn.Linear(128, 16), nn.ReLU())
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        return self.head(self.adapter(self.backbone(x)))


def run_epochs(model, x, y, optimizer, epochs, name):
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        for i in torch.randperm(len(x)).split(32):
            loss = loss_fn(model(x[i]), y[i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"{name} {epoch} loss {loss.item():.4f}")


def main():
    torch.manual_seed(5)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16 - 0.3
    y = torch.tensor(digits.target)
    i = torch.randperm(len(x))
    x, y = x[i], y[i]
    few = y < 5

    source = Classifier(Backbone(), 5)
    pre = few.clone()
    pre[1300:] = False
    run_epochs(source, x[pre], y[pre], torch.optim.Adam(source.parameters(), lr=2e-3), 4, "pretrain")

    model = Classifier(source.backbone, 10)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("head")
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=2e-3)
    run_epochs(model, x[:1300], y[:1300], optimizer, 10, "finetune")
    model.eval()
    with torch.no_grad():
        acc = (model(x[1300:]).argmax(1) == y[1300:]).float().mean().item()
    print(f"test accuracy {acc:.4f}")


if __name__ == "__main__":
    main()
