"""A model whose accuracy collapses in evaluation, and one line that mends it: python examples/recalibrate.py"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import levelhead as lh


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of right answers; the model stays in the mode that it is in."""
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def main() -> None:
    """Trains with running estimates that hardly move, and then takes true ones."""
    torch.manual_seed(0)
    data = lh.data.load("digits")
    x, y = data.train.inputs.flatten(1), data.train.targets
    norms = [nn.BatchNorm1d(64, momentum=0.001) for _ in range(3)]  # 0.999, as another library would write it
    layers = [part for i, norm in enumerate(norms) for part in (nn.Linear(64, 64), norm, nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(100):
        rows = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()

    test = data.test.inputs.flatten(1), data.test.targets
    model.eval()
    print(f"evaluation with the running estimates: {accuracy(model, *test):.3f}")
    report = lh.recalibrate(model, x.split(64))
    print(f"evaluation with the true statistics:   {accuracy(model, *test):.3f}")
    print(report)


if __name__ == "__main__":
    main()
