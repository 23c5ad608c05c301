"""What recalibration costs beside the forward passes that it makes: at most 1.15 times a plain pass.

A plain pass is the model in evaluation, without gradients, over the same batches; update_bn is PyTorch's own. The
rounds are taken in turn, and a ratio is the median of those of the rounds.

    python benchmarks/recalibrate.py [--rounds 7] [--threads 2]
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

import levelhead as lh


class Block(nn.Module):
    """The basic block of ResNet."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.short = None
        if stride > 1:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(out + (x if self.short is None else self.short(x)))


def resnet18():
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    blocks = [Block(*width) for width in [*widths, (512, 512, 1)]]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def mlp():
    layers = [part for _ in range(3) for part in (nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def plain(model, batches):
    model.eval()
    with torch.no_grad():
        for batch in batches:
            model(batch)


CASES = {
    "ResNet-18, 16 x 3 x 224 x 224": (resnet18, (16, 3, 224, 224), False, 1),
    "the same, channels last": (resnet18, (16, 3, 224, 224), True, 1),
    "MLP 3 x 512, 256 rows": (mlp, (256, 512), False, 20),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lh.tune_allocator()
    print(f"torch {torch.__version__}, {arguments.threads} threads, allocator tuned")
    print(f"{'model':32}{'plain ms':>10}{'recalibrate':>13}{'update_bn':>11}  (times the plain pass)")
    for name, (make, shape, last, count) in CASES.items():
        torch.manual_seed(0)
        model, batches = make(), [torch.randn(shape) for _ in range(count)]
        if last:
            model = model.to(memory_format=torch.channels_last)
            batches = [batch.contiguous(memory_format=torch.channels_last) for batch in batches]
        ways = (plain, lh.recalibrate, lambda model, batches: update_bn(batches, model))
        rounds = []
        for _ in range(arguments.rounds + 1):
            times = []
            for way in ways:
                start = time.perf_counter()
                way(model, batches)
                times.append(time.perf_counter() - start)
            rounds.append(times)
        rounds = rounds[1:]  # the first warms up
        ours, theirs = (statistics.median(times[i] / times[0] for times in rounds) for i in (1, 2))
        ms = statistics.median(times[0] for times in rounds) * 1e3 / count
        print(f"{name:32}{ms:10.1f}{ours:13.2f}{theirs:11.2f}")


if __name__ == "__main__":
    main()
