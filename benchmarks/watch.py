"""What ``levelhead.watch`` costs: a step with it by a step without, in the same run.

The two loops take turns in blocks, so that a busy machine hurts both; the ratio is that of the sums over blocks, since
measured updates grow rarer from block to block. "early" is from update 16 to 256, "later" with every 128th measured.
The models' weights are compared afterwards: watched and unwatched must be equal.

    OMP_NUM_THREADS=1 python benchmarks/watch.py
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import levelhead as lh

#: Updates of a block; later, from one measured update to the next.
EARLY, LATER = 16, 128


def mlp() -> tuple[nn.Module, Tensor]:
    layers = [layer for _ in range(3) for layer in (nn.Linear(100, 100), nn.ReLU())]
    return nn.Sequential(nn.Linear(784, 100), nn.ReLU(), *layers[2:], nn.Linear(100, 10)), torch.randn(60, 784)


def tiny() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10)), torch.randn(32, 16)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def resnet() -> tuple[nn.Module, Tensor]:
    stages: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for inside, outside in ((16, 32), (32, 64)):
        stages += [Residual(inside), Residual(inside)]
        stages += [nn.Conv2d(inside, outside, 3, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    stages += [Residual(64), Residual(64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stages), torch.randn(32, 3, 32, 32)


class Loop:
    """One copy of a model with its optimizer."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, backward: Callable[[Tensor], None]) -> None:
        self.model, self.x, self.y, self.backward = model, x, y, backward
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def block(self, updates: int) -> float:
        """Seconds of a block of updates."""
        start = time.perf_counter()
        for _ in range(updates):
            self.optimizer.zero_grad()
            self.backward(nn.functional.cross_entropy(self.model(self.x), self.y))
            self.optimizer.step()
        return time.perf_counter() - start


def measure(build: Callable[[], tuple[nn.Module, Tensor]], blocks: int, each: int) -> tuple[float, float, float, bool]:
    """Milliseconds a step without and with, the ratio of the sums, and whether both ended with equal weights."""
    torch.manual_seed(0)
    model, x = build()
    y = torch.randint(0, 10, (len(x),))
    # A watch hears every Tensor.backward(); the loop without it goes past that.
    plain, watched = (
        Loop(copy.deepcopy(model), x, y, torch.autograd.backward),
        Loop(model, x, y, lambda loss: loss.backward()),
    )
    with lh.watch(watched.model, watched.optimizer, every=each):
        plain.block(EARLY), watched.block(EARLY)  # both warm, and the first measured steps done
        pairs = [(plain.block(each), watched.block(each)) for _ in range(blocks)]
    same = all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True))
    without, having = (1000 * statistics.median(column) / each for column in zip(*pairs, strict=True))
    return without, having, sum(b for _, b in pairs) / sum(a for a, _ in pairs), same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--blocks", type=int, default=40, help="pairs of blocks for the small models; a fifth for ResNet"
    )
    blocks = parser.parse_args().blocks
    print(f"{'model':28s} {'updates':8s} {'without':>10s} {'with':>10s} {'ratio':>7s}  equal weights")
    for name, build, count in (
        ("MLP 16-32-10, batch 32", tiny, blocks),
        ("MLP 784-3x100-10, batch 60", mlp, blocks),
        ("ResNet-14, batch 32 x 32x32", resnet, max(2, blocks // 10)),
    ):
        for when, each in (("early", EARLY), ("later", LATER)):
            without, having, ratio, same = measure(build, min(count, 15 if each == EARLY else 4), each)
            equal = "yes" if same else "NO"
            print(f"{name:28s} {when:8s} {without:7.3f} ms {having:7.3f} ms {ratio:7.3f}  {equal}", flush=True)


if __name__ == "__main__":
    main()
