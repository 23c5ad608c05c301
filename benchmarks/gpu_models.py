"""The models of ``gpu.py``: ResNet-50, a stack of GPT-2's blocks, and a chain of convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import levelhead as lh


class Bottleneck(nn.Module):
    """He et al. 2016, "Deep residual learning", figure 5, with the stride in the 3×3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return self.relu(out)


class ResNet(nn.Module):
    """ResNet-50 for images of 224×224."""

    def __init__(self, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        layers: list[nn.Module] = []
        inputs = width
        for stage, count in enumerate(blocks):
            for i in range(count):
                layers.append(Bottleneck(inputs, width << stage, 2 if stage and not i else 1))
                inputs = 4 * width << stage
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.stem(x)).mean((2, 3)))


class Block(nn.Module):
    """GPT-2's block: Radford et al. 2019, section 2.3; causal attention, dropout in three places."""

    def __init__(self, width: int, heads: int, p: float) -> None:
        super().__init__()
        self.heads, self.p = heads, p
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout1, self.dropout2 = nn.Dropout(p), nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0, is_causal=True)
        x = x + self.dropout1(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout2(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))


def resnet(quick: bool) -> tuple[nn.Module, list[Tensor]]:
    """The model and a batch of images with their classes."""
    model = ResNet(8, (1, 1)) if quick else ResNet(64, (3, 4, 6, 3))
    count, size = (4, 32) if quick else (128, 224)
    return model, [torch.randn(count, 3, size, size), torch.randint(1000, (count,))]


def blocks(quick: bool) -> tuple[nn.Module, list[Tensor]]:
    """The 12 blocks of GPT-2 small and a batch of 1,024 positions."""
    width, heads, layers, count, length = (32, 2, 2, 2, 8) if quick else (768, 12, 12, 8, 1024)
    model = nn.Sequential(*(Block(width, heads, 0.1) for _ in range(layers)), nn.LayerNorm(width))
    return model, [torch.randn(count, length, width)]


MODELS: dict[str, Callable[[bool], tuple[nn.Module, list[Tensor]]]] = {
    "ResNet-50, 128x3x224x224, channels-last": resnet,
    "GPT-2 small's 12 blocks, 8x1024 tokens": blocks,
}


def chain(which: str, quick: bool) -> tuple[nn.Module, Tensor]:
    """Convolutions, each with batch norm and leaky ReLU: "eager", "fused" or "inplace"."""
    width, count, size = (4, 2, 8) if quick else (64, 32, 56)
    layers: list[nn.Module] = []
    for _ in range(2 if quick else 16):
        layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
        if which == "eager":
            layers += [nn.BatchNorm2d(width), nn.LeakyReLU()]
        else:
            memory = "inplace" if which == "inplace" else None
            layers.append(lh.nn.BatchNorm2d(width, activation="leaky_relu", memory=memory))
    return nn.Sequential(*layers), torch.randn(count, width, size, size)


def loss_of(model: nn.Module, inputs: list[Tensor]) -> Tensor:
    """Cross entropy where there are classes, else the mean square."""
    y = model(inputs[0]).float()
    return F.cross_entropy(y, inputs[1]) if len(inputs) > 1 else y.square().mean()


def step(model: nn.Module, inputs: list[Tensor]) -> Callable[[], Tensor]:
    """One training step without the optimizer, which is the same on all sides."""

    def run() -> Tensor:
        model.zero_grad(set_to_none=True)
        loss = loss_of(model, inputs)
        loss.backward()
        return loss.detach()

    return run


def check(ours: nn.Module, theirs: nn.Module, inputs: list[Tensor]) -> None:
    """Loss and gradients agree in float64; dropout is off, for its masks differ."""
    few = [t[:4].double() if t.is_floating_point() else t[:4] for t in inputs]
    pair = []
    for model in (ours, theirs):
        copied = copy.deepcopy(model).double()
        for module in copied.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
            if isinstance(module, Block):
                module.p = 0.0
        pair.append(copied)
    torch.testing.assert_close(*(step(model, few)() for model in pair), rtol=1e-6, atol=1e-9)
    for a, b in zip(pair[0].parameters(), pair[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-8)
