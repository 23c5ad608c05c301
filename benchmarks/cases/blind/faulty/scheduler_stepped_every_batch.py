"""A step scheduler that is stepped once per batch instead of once per epoch.

`StepLR(step_size=5, gamma=0.3)` was meant to cut the rate every five epochs. Its `step()` sits in
the loop over batches, so that the rate is cut every five batches and is practically zero before
the first epoch is over. The repair steps it at the end of each epoch.
"""

import torch
from case import Case, accuracy, standard_step
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"learning-rate-too-low"}
WHERE = "loop"


def digits():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    train, val = order[:1280], order[1280:]
    mean, spread = x[train].mean(), x[train].std()
    x = (x - mean) / spread
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


def build(seed, every):
    torch.manual_seed(seed)
    train, val = digits()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)
    loader = DataLoader(train, batch_size=64, shuffle=True)
    updates = 0

    def step(case, batch):
        nonlocal updates
        loss = standard_step(case, batch)
        updates += 1
        if every == "batch" or updates % len(loader) == 0:
            scheduler.step()
        return loss

    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        train=loader,
        val=DataLoader(val, batch_size=517),
        epochs=15,
        score=accuracy,
        step=step,
    )


def faulty(seed):
    return build(seed, every="batch")


def fixed(seed):
    return build(seed, every="epoch")
