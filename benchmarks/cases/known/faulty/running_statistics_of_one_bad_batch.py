"""One infinite value in the training data; batches with such a loss are skipped, but not by the statistics."""

import torch
from case import classifier, table
from torch import nn

CAUSES = {"non-finite-data", "poisoned-running-statistics"}
WHERE = "1"


def careful(case, batch):
    x, y = batch
    case.model.train()
    case.optimizer.zero_grad()
    loss = case.loss(case.model(x), y)
    if torch.isfinite(loss):
        loss.backward()
        case.optimizer.step()
    return loss.detach()


def build(seed, bad):
    torch.manual_seed(seed)
    (x, y), val = table("digits")
    x = x.clone()
    if bad:
        x[17, 20] = float("inf")
    model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    return classifier(model, (x, y), val, step=careful)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
