"""Models as people write them, for the tests of fusion."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class BasicBlock(nn.Module):
    """As in torchvision: one ReLU module used twice, a sum in place, and a shortcut in between."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        identity = x

        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)

        out = self.conv2(out)
        out = self.bn2(out)

        if self.downsample is not None:
            identity = self.downsample(x)

        out += identity
        out = self.relu(out)

        return out  # noqa: RET504 - as people write it


class Bottleneck(nn.Module):
    """In nested expressions, with ``super`` in a helper and the functional forms."""

    def __init__(self, inputs, width, outputs):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out)).relu()
        out = self.conv3(out)
        return torch.relu(torch.add(self.bn3(out), self.shortcut(x)))


class PreActivation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, 1, 1)
        self.bn2, self.conv2 = nn.GroupNorm(2, channels), nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x):
        h = self.bn1(x)
        h = F.silu(h)
        h = self.conv1(h)
        h = self.conv2(F.gelu(self.bn2(h), approximate="tanh"))
        return x + h


class TwoArms(nn.Module):
    """The sum of two sequences, of which the left one ends in the normalization."""

    def __init__(self, channels):
        super().__init__()
        self.left = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1), nn.InstanceNorm2d(channels, affine=True)),
        )
        self.shortcut = nn.Sequential()

    def forward(self, x):
        out = self.left(x)
        out = out + self.shortcut(x)
        out = F.relu(out)
        return out  # noqa: RET504 - as people write it


class ConvNormAct(nn.Sequential):
    """A subclass without a forward of its own."""

    def __init__(self, inputs, outputs):
        super().__init__(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU())


class InvertedResidual(nn.Module):
    """As MobileNetV2's: a sum that has no activation behind it, and one that has."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 8, 1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, channels, 3, 1, 1), nn.BatchNorm2d(channels)
        self.act, self.drop_path = nn.ReLU6(), nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        y = self.drop_path(y)
        y = x + y
        return F.hardswish(self.bn2(self.conv2(self.act(self.bn1(self.conv1(y))))) + y)


class Optional(nn.Module):
    """As MobileNetV2's in transformers: a norm and an activation that may be None."""

    def __init__(self, channels, act):
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(channels, channels, 3), nn.BatchNorm2d(channels), act

    def forward(self, x):
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        if self.act is not None:
            x = self.act(x)
        return x


class Loop(nn.Module):
    """Layers in a list, walked as often as the data says."""

    def __init__(self, width, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.tanh(norm(layer(x)))
            if x.abs().mean() > 0.6:
                x = x * 0.5
        return x


class Moods(nn.Module):
    """What a traced graph would freeze: training, an attribute, chance, an absent argument, a global switch."""

    def __init__(self, width):
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.RMSNorm(width)
        self.scale = 1.0
        self.seen = []

    def forward(self, x, mask=None, *, skip=False):
        y = self.norm(self.linear(x))
        self.seen.append(len(x))
        y = F.silu(y)
        if mask is not None:
            y = y * mask
        if self.training and random.random() < 0.5:
            y = y + 1
        y = F.dropout(y, 0.5, training=self.training)
        return y if skip else y * self.scale


class DenseLayer(nn.Module):
    """The normalized value is used twice."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(width), nn.Linear(width, width)

    def forward(self, x):
        y = self.norm(x)
        z = F.relu(y)
        return torch.cat([self.linear(z), y], 1)


class Shared(nn.Module):
    """One normalization under two names, and once more with another use."""

    def __init__(self, width):
        super().__init__()
        self.norm = self.again = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return F.relu(self.norm(x)) + self.linear(self.again(x * 2))


class Recomputed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear, self.norm, self.act = nn.Linear(width, width), nn.LayerNorm(width), nn.ELU()

    def inner(self, x):
        return self.act(self.norm(self.linear(x)))

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


class Encoder(nn.Module):
    """A transformer's layer with explicit norms, and PyTorch's own layer after it."""

    def __init__(self, width=8):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, width))
        self.own = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return self.own(x + self.feed(self.norm2(x)))


#: name -> (model, shape of the input, how many calls are fused in one forward pass)
MODELS = {
    "basic block": (lambda: BasicBlock(4, 4), (2, 4, 6, 6), 2),
    "basic block, downsampling": (lambda: BasicBlock(4, 6, 2), (2, 4, 6, 6), 2),
    "bottleneck": (lambda: Bottleneck(4, 3, 6), (2, 4, 6, 6), 3),
    "pre-activation": (lambda: PreActivation(4), (2, 4, 6, 6), 2),
    "two arms": (lambda: TwoArms(4), (2, 4, 6, 6), 2),
    "sequential": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(True)), (2, 4, 6, 6), 1),
    "conv-norm-act": (lambda: nn.Sequential(ConvNormAct(4, 6), ConvNormAct(6, 2)), (2, 4, 6, 6), 2),
    "inverted residual": (lambda: InvertedResidual(4), (2, 4, 6, 6), 3),
    "optional": (lambda: nn.Sequential(Optional(4, nn.ReLU6()), Optional(4, None)), (2, 4, 6, 6), 1),
    "loop": (lambda: Loop(5, 3), (4, 5), 3),
    "moods": (lambda: Moods(5), (4, 5), 1),
    "dense": (lambda: DenseLayer(5), (4, 5), 0),
    "shared": (lambda: Shared(5), (4, 5), 0),
    "recomputed": (lambda: Recomputed(5), (4, 5), 1),
    "encoder": (Encoder, (2, 3, 8), 1),
}
