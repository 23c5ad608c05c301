"""Logistic regression on 426 rows with a small penalty."""

import torch
from case import classifier, table
from torch import nn


def healthy(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(30, 2))
    return classifier(model, *table("breast_cancer"), lr=1e-2, epochs=20)
