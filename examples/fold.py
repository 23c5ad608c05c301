"""Fold a Standardizer and batch norms for deployment, and export the result: python examples/fold.py"""

from __future__ import annotations

import torch
from torch import nn

import levelhead as lh


def main() -> None:
    """Prints what went where, and which operators an exported program has left."""
    torch.manual_seed(0)
    images = torch.randn(64, 3, 16, 16) * 40 + torch.tensor([120.0, 110.0, 100.0]).view(3, 1, 1)
    model = nn.Sequential(
        lh.Standardizer().fit(images),  # per channel; the convolution behind it does not pad, so that it can go in
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        lh.nn.BatchNorm2d(8, activation="relu"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(8),
        nn.Linear(8, 10),
    )
    lh.recalibrate(model, [images])

    folded = lh.fold(model, images)
    print(folded)
    program = torch.export.export(folded.model, (images,))
    operators = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    print("exported:", ", ".join(operators))


if __name__ == "__main__":
    main()
