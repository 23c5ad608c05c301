"""What is written as ONNX is named, and runs beside the module."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import levelhead as lh

pytest.importorskip("onnxruntime")
from levelhead.integrations.onnx import export

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"
)  # PyTorch's


def model():
    return nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())


def test_what_trains_is_named_and_nothing_is_written(tmp_path):
    path, x = tmp_path / "model.onnx", torch.randn(2, 4, 6, 6)
    with pytest.raises(ValueError, match=r"^2: in training, which torch.onnx.export writes in another form"):
        export(model(), (x,), path)
    half = model().eval()
    half[3] = nn.Dropout()
    with pytest.raises(ValueError, match=r"^3: in training"):
        export(half, (x,), path)
    batch = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)).eval()
    with pytest.raises(ValueError, match=r"^0: normalizes by the batch"):
        export(batch, (x,), path)
    many = nn.Sequential(*[nn.BatchNorm2d(4) for _ in range(5)])
    with pytest.raises(ValueError, match=r"^0, 1, 2 and 2 more: in training"):
        export(many, (x,), path)
    with pytest.raises(ValueError, match=r"^0: opset=21 writes it as GroupNormalization.*take opset=20"):
        export(model().eval(), (x,), path, opset=21)
    recurrent = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4, 2, dropout=0.5))
    with pytest.raises(ValueError, match=r"^1: in training"):
        export(recurrent, (x[0],), path)
    assert not path.exists()


class Functions(nn.Module):
    """No module that is a norm or a dropout."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), training=True), "inner: normalizes by the batch"),
        (lambda x: F.batch_norm(x, None, None, training=True), "inner: normalizes by the batch"),
        (lambda x: F.dropout(x, 0.5), "inner: drops out in evaluation, too"),
        (lambda x: F.group_norm(x, 2), "inner: opset=21 writes it as GroupNormalization"),
    ],
)
def test_what_functions_do_is_named_too(tmp_path, function, said):
    path, network = tmp_path / "model.onnx", nn.Sequential(OrderedDict(inner=Functions(function))).eval()
    with pytest.raises(ValueError, match=said):
        export(network, (torch.randn(2, 4, 6, 6),), path, opset=21)
    assert not path.exists()


@pytest.mark.slow
def test_the_file_runs_beside_the_module(tmp_path):
    x = torch.randn(2, 4, 8, 8)
    network = lh.convert(model())
    network(x)
    exported = export(network.eval(), (x,), tmp_path / "model.onnx")
    assert exported.file.keys() == {0.0, 1e4}
    assert exported.file[0.0] < 1e-5  # a dozen roundings of float32
    assert exported.file[1e4] < 1e-2  # of an input whose digits end at 1e-3
    assert str(exported).splitlines()[1].startswith("at mean 0: off by ")


def test_a_file_that_differs_is_warned_of(tmp_path, monkeypatch):
    def another(network, args, **options):
        return original(nn.Sequential(network, nn.Threshold(0.0, math.nan)).eval(), args, **options)

    original = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", another)
    with pytest.warns(UserWarning, match="does not give what the module gives"):
        exported = export(nn.Linear(3, 2).eval(), (torch.randn(4, 3),), tmp_path / "model.onnx", means=(0.0,))
    assert math.isnan(exported.file[0.0])
