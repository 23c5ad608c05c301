"""Convert a residual network, see what is fused, and check that a training step is the same.

Run: python examples/convert_resnet.py
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import levelhead as lh


class Block(nn.Module):
    """The basic block of ResNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + x)


def main() -> None:
    """Prints what was fused, and the largest difference of the gradients."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*stem, Block(16), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    converted = lh.convert(copy.deepcopy(model))
    for name, text in lh.nn.explain(converted).fused.items():
        print(f"{name or 'model':8} {text}")

    x, y = torch.randn(8, 3, 32, 32), torch.randint(10, (8,))
    for m in (model, converted):
        F.cross_entropy(m(x), y).backward()
    pairs = zip(model.parameters(), converted.parameters(), strict=True)
    print(f"largest difference of a gradient: {max(float((a.grad - b.grad).abs().max()) for a, b in pairs):.1e}")
    model.load_state_dict(converted.state_dict())


if __name__ == "__main__":
    main()
