"""Pretrain on digits 0-4, freeze the convolutional base, fine-tune a new head on digits 5-9."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)


def get_split(classes, n_test=250):
    d = load_digits()
    mask = torch.tensor([t in classes for t in d.target])
    x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1)[mask] / 16
    y = torch.tensor(d.target)[mask] - min(classes)
    p = torch.randperm(len(x))
    x, y = x[p], y[p]
    return (x[n_test:], y[n_test:]), (x[:n_test], y[:n_test])


def build():
    features = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
    )
    return nn.ModuleDict({"features": features, "head": nn.Linear(128, 5)})


def forward(model, x):
    return model["head"](model["features"](x))


def accuracy(model, data):
    model.eval()
    with torch.no_grad():
        return (forward(model, data[0]).argmax(1) == data[1]).float().mean().item()


def train(model, data, test, epochs, lr, tag):
    x, y = data
    params = [p for p in model.parameters() if p.requires_grad]
    print(tag, "trainable parameters:", sum(p.numel() for p in params))
    opt = torch.optim.Adam(params, lr=lr)
    loss_fn = nn.CrossEntropyLoss()
    for ep in range(epochs):
        model.train()
        total = 0.0
        for idx in torch.randperm(len(x)).split(32):
            opt.zero_grad()
            loss = loss_fn(forward(model, x[idx]), y[idx])
            loss.backward()
            opt.step()
            total += loss.item() * len(idx)
        print(f"{tag} epoch {ep} loss {total / len(x):.4f} test acc {accuracy(model, test):.3f}")


model = build()
low_tr, low_te = get_split(range(0, 5))
high_tr, high_te = get_split(range(5, 10))
train(model, low_tr, low_te, epochs=8, lr=2e-3, tag="pretrain")

for p in model["features"].parameters():
    p.requires_grad = False
model["head"] = nn.Linear(128, 5)
print("before fine-tuning: %.3f" % accuracy(model, high_te))
train(model, high_tr, high_te, epochs=20, lr=5e-3, tag="finetune")
