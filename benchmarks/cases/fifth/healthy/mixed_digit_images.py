"""A convolutional network trained on blends of two digits.

Each update blends every image of the batch with another one, and the loss with it; labels are
smoothed on top. The training loss therefore stays near one to the end and lies far above the
validation loss, though the network names nearly all digits.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU()
        )
        self.classes = nn.Linear(24 * 16, 10)

    def forward(self, x):
        return self.classes(self.features(x).flatten(1))


def blended(case, batch):
    images, labels = batch
    case.model.train()
    case.optimizer.zero_grad()
    share = torch.distributions.Beta(0.4, 0.4).sample()
    other = torch.randperm(len(images))
    output = case.model(share * images + (1 - share) * images[other])
    loss = share * case.loss(output, labels) + (1 - share) * case.loss(output, labels[other])
    loss.backward()
    case.optimizer.step()
    return loss.detach()


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1300], order[1300:]
    model = ConvNet()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=500),
        epochs=10,
        score=accuracy,
        step=blended,
    )
