"""``torch.set_default_device`` is for the user's tensors: what we make belongs where the input is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import levelhead as lh


class Scale(nn.Module):
    """RMS norm of an unknown class."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(5))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


torch.manual_seed(0)
ROWS, IMAGES, SHARES = torch.randn(6, 5), torch.randn(4, 3, 8, 8), torch.eye(4)
MLP = nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.ReLU(), Scale())
CONV = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def recalibrated():
    model = copy.deepcopy(CONV)
    lh.recalibrate(model, [IMAGES])
    return model.eval()(IMAGES)


def drawn():
    model = copy.deepcopy(MLP)
    lh.init.initialize_(model, "he")
    lh.init.calibrate_(model, ROWS)
    return model(ROWS)


CALLS = {
    "moments": lambda: lh.Moments.of(ROWS, 0).var(),
    "standardizer": lambda: lh.Standardizer().fit(ROWS)(ROWS),
    "convert": lambda: lh.convert(copy.deepcopy(MLP))(ROWS),
    "fold": lambda: lh.fold(copy.deepcopy(CONV).eval()).model(IMAGES),
    "recalibrate": recalibrated,
    "initialize": drawn,
    "mixup": lambda: lh.regularizers.mixup(IMAGES, SHARES, 0.2)[0],
    "cutmix": lambda: lh.regularizers.cutmix(IMAGES, SHARES, 0.2)[0],
}


@pytest.mark.parametrize("name", CALLS)
def test_another_default_device_changes_nothing(name):
    torch.manual_seed(1)
    expected = CALLS[name]()
    torch.manual_seed(1)
    with torch.device("meta"):
        found = CALLS[name]()
    torch.testing.assert_close(found, expected)
