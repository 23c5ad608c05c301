"""A convnet with batch normalisation in batches of eight and AdamW's decay at 0.05.

Eight images give each channel at least 8 * 16 values to take its mean and variance from, so the
batches are large enough. Pixels lie in 0..1 as they are; the first normalisation sees to their scale. Weight
decay is for the weights of convolutions and the output alone, not for biases or normalisation.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.94


def block(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class DigitNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*block(1, 12), nn.MaxPool2d(2), *block(12, 32), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * 2 * 2, 10))

    def forward(self, x):
        return self.classifier(self.features(x))


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1200], order[1200:]
    model = DigitNet()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(groups, lr=0.004),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=8, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=199),
        epochs=4,
        score=accuracy,
    )
