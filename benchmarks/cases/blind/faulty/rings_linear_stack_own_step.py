"""Two concentric rings, four linear layers, and an update written by hand: two faults.

The layers follow each other without an activation, so the network is one linear map, and no line
separates a ring from the disc inside it. The update, besides, never clears the gradients, which
pile up from the first batch on and drive the weights back and forth. The repair puts a ReLU behind
each hidden layer and calls `zero_grad`.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"missing-nonlinearity", "gradients-accumulate"}
WHERE = "fc1"


class Net(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(2, 32)
        self.fc2 = nn.Linear(32, 32)
        self.fc3 = nn.Linear(32, 16)
        self.fc4 = nn.Linear(16, 2)

    def forward(self, x):
        for layer in (self.fc1, self.fc2, self.fc3):
            x = self.activation(layer(x))
        return self.fc4(x)


def rings(rows):
    y = torch.randint(0, 2, (rows,))
    radius = 0.6 + 0.8 * y + 0.15 * torch.randn(rows)
    angle = 2 * torch.pi * torch.rand(rows)
    return TensorDataset(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), y)


def step_without_clearing(case, batch):
    x, y = batch
    case.model.train()
    loss = case.loss(case.model(x), y)
    loss.backward()
    case.optimizer.step()
    return loss.detach()


def step(case, batch):
    x, y = batch
    case.model.train()
    case.optimizer.zero_grad()
    loss = case.loss(case.model(x), y)
    loss.backward()
    case.optimizer.step()
    return loss.detach()


def build(seed, activation, step):
    torch.manual_seed(seed)
    model = Net(activation)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5),
        train=DataLoader(rings(1000), batch_size=25, shuffle=True),
        val=DataLoader(rings(400), batch_size=400),
        epochs=20,
        score=accuracy,
        step=step,
    )


def faulty(seed):
    return build(seed, lambda x: x, step_without_clearing)


def fixed(seed):
    return build(seed, torch.relu, step)
