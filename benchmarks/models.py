"""A training step of whole models: ``lh.convert`` against eager PyTorch, both with the tuned allocator.

    python benchmarks/models.py [--threads 2] [--repeats 15]

Checks that loss and gradients agree, then times the two in turn and prints medians and their ratio.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import levelhead as lh


class Block(nn.Module):
    """The basic block of ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return self.relu(out)


def resnet(width: int = 16) -> nn.Module:
    """ResNet-20 for images of 32×32."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    inputs = width
    for stage in range(3):
        for i in range(3):
            layers.append(Block(inputs, width << stage, 2 if stage and not i else 1))
            inputs = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


class Layer(nn.Module):
    """A transformer's encoder layer: attention, then two linear layers, each with dropout, sum and layer norm."""

    def __init__(self, width: int, heads: int, hidden: int, p: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout, self.dropout1, self.dropout2 = nn.Dropout(p), nn.Dropout(p), nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.dropout1(self.out(a)))
        return self.norm2(x + self.dropout2(self.down(self.dropout(F.gelu(self.up(x))))))


def transformer(p: float = 0.1) -> nn.Module:
    """Four layers of width 256, a class from the mean over the positions."""
    layers = [Layer(256, 4, 1024, p) for _ in range(4)]
    return nn.Sequential(nn.Linear(64, 256), *layers, nn.AdaptiveAvgPool2d((1, 256)), nn.Flatten(), nn.Linear(256, 10))


def step(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One training step without the optimizer, which is the same on both sides."""
    model.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss


def check(ours: nn.Module, theirs: nn.Module, x: Tensor, y: Tensor) -> None:
    """The loss in float32, and the gradients in float64: in float32 a ReLU near 0 can fall on either side.

    Dropout is off, for its masks differ.
    """
    pair = []
    for model in (ours, theirs):
        copied = copy.deepcopy(model)
        for module in copied.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        pair.append(copied)
    torch.testing.assert_close(step(pair[0], x, y), step(pair[1], x, y), rtol=1e-4, atol=1e-5)
    few = x[:32].double()
    for model in pair:
        step(model.double(), few, y[:32])
    for a, b in zip(pair[0].parameters(), pair[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9)


def compare(name: str, make: Callable[[], nn.Module], x: Tensor, repeats: int) -> None:
    """Checks and times one model, and prints its line."""
    torch.manual_seed(0)
    y = torch.randint(10, (len(x),))
    theirs = make()
    ours = lh.convert(copy.deepcopy(theirs))
    check(ours, theirs, x, y)
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for i in range(repeats + 3):
        for key, model in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            step(model, x, y)
            if i >= 3:  # the first ones fill the allocator
                times[key].append((time.perf_counter() - start) * 1e3)
    a, b = statistics.median(times["ours"]), statistics.median(times["theirs"])
    fused = sum(text.count(" + ") > 0 and len(text.split(", ")) for text in lh.nn.explain(ours).fused.values())
    print(f"{name:42} {b:9.1f} {a:9.1f} {b / a:6.2f}x {fused:6d}")


def main() -> None:
    """Reads the arguments and prints one line a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, tuned allocator: {lh.tune_allocator()}")
    print(f"backends: {lh.ops.backends()}")
    print(f"{'training step, ms':42} {'eager':>9} {'converted':>9} {'ratio':>7} {'fused':>6}")
    images = torch.randn(128, 3, 32, 32)
    channels_last = images.to(memory_format=torch.channels_last)
    compare("ResNet-20, 128x3x32x32", resnet, images, arguments.repeats)
    compare(
        "ResNet-20, channels-last",
        lambda: resnet().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        channels_last,
        arguments.repeats,
    )
    compare("transformer 4x256, 32x128 tokens", transformer, torch.randn(32, 128, 64), arguments.repeats)
    without = "transformer, without dropout"
    compare(without, lambda: transformer(0.0), torch.randn(32, 128, 64), arguments.repeats)


if __name__ == "__main__":
    main()
