"""A deep tumour classifier whose weights are drawn with a standard deviation of 0.01.

Eight fully connected ReLU layers on the standardized breast cancer table. An `init_weights` found in
an old tutorial draws every weight from N(0, 0.01), so each 48-wide layer shrinks the signal to about
a twentieth; what reaches the output, and the gradient on its way back, is far below anything a step
of SGD can use, and the net answers the majority class. The repair is He initialization.
"""

import torch
from case import Case
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"init-too-small"}
WHERE = "layers.0"


class DeepNet(nn.Module):
    def __init__(self, inputs=30, width=48, depth=8):
        super().__init__()
        layers = []
        for i in range(depth):
            layers += [nn.Linear(inputs if i == 0 else width, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(width, 1)

    def forward(self, x):
        return self.output(self.layers(x)).squeeze(1)


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, mean=0.0, std=0.01)
        nn.init.zeros_(module.bias)


def init_he(module):
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def tumours(seed):
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = x[order], y[order]
    mean, std = x[:400].mean(dim=0), x[:400].std(dim=0)
    x = (x - mean) / std
    return TensorDataset(x[:400], y[:400]), TensorDataset(x[400:], y[400:])


def binary_accuracy(model, loader):
    right = [(model(x) > 0) == (y > 0.5) for x, y in loader]
    return float(torch.cat(right).float().mean())


def build(seed, init):
    torch.manual_seed(seed)
    model = DeepNet().apply(init)
    train, val = tumours(seed)
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9),
        train=DataLoader(train, batch_size=25, shuffle=True),
        val=DataLoader(val, batch_size=169),
        epochs=20,
        score=binary_accuracy,
    )


def faulty(seed):
    return build(seed, init_weights)


def fixed(seed):
    return build(seed, init_he)
