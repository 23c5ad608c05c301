"""A convnet with everything of a modern recipe in its own update.

Label smoothing keeps the loss far above zero; the rate warms up and then follows a half cosine
down to zero, set by hand in the update from a counter; the gradient's norm is clipped and the
gradients are set to None after the update instead of before it. Activations work in place.
"""

import math

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.95
EPOCHS, WARMUP, PEAK = 10, 20, 0.1


def network():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(inplace=True),
        nn.Conv2d(24, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def scheduled(total):
    update = 0

    def step(case, batch):
        nonlocal update
        x, y = batch
        update += 1
        if update <= WARMUP:
            rate = PEAK * update / WARMUP
        else:
            rate = PEAK * 0.5 * (1 + math.cos(math.pi * min(1.0, (update - WARMUP) / (total - WARMUP))))
        for group in case.optimizer.param_groups:
            group["lr"] = rate
        case.model.train()
        loss = case.loss(case.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(case.model.parameters(), 2.0)
        case.optimizer.step()
        case.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1344], order[1344:]
    x = (x - x[train].mean()) / x[train].std()
    model = network()
    loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=48, shuffle=True)
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=torch.optim.SGD(groups, lr=PEAK, momentum=0.9, nesterov=True),
        train=loader,
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=200),
        epochs=EPOCHS,
        score=accuracy,
        step=scheduled(EPOCHS * len(loader)),
    )
