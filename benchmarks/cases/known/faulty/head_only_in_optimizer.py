"""A new head is trained on a body that was never trained itself."""

import torch
from case import classifier, mlp, table
from torch import nn

CAUSES = {"parameters-not-trained"}
WHERE = "optimizer"


def build(seed, wrong):
    torch.manual_seed(seed)
    model = nn.Sequential(mlp(64, 8, 8), nn.ReLU(), nn.Linear(8, 10))
    parameters = model[2].parameters() if wrong else model.parameters()
    return classifier(model, *table("digits"), optimizer=torch.optim.Adam(parameters, lr=3e-3))


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
