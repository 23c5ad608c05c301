"""The evaluation forgets eval mode, with dropout of one half."""

import torch
from case import accuracy, classifier, table
from torch import nn

CAUSES = {"train-mode-in-eval"}
WHERE = "loop"


def evaluate(case):
    with torch.no_grad():
        return accuracy(case.model.train(), case.val)


def build(seed, wrong):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.6), nn.Linear(32, 10))
    return classifier(model, *table("digits"), lr=3e-3, evaluate=evaluate if wrong else None)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
