"""Classes with a norm for a base and a ``forward`` of their own: known by what they calculate."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import levelhead as lh


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d."""

    def __init__(self, channels, act):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), act

    def forward(self, x):
        if self.training:
            self.num_batches_tracked.add_(1)
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return self.act(self.drop(x))


class Rectified(nn.BatchNorm2d):
    def forward(self, x):
        return F.relu(super().forward(x))


class GroupNorm1(nn.GroupNorm):
    """As timm's, which is a group norm of one group."""

    def __init__(self, channels):
        super().__init__(1, channels)

    def forward(self, x):
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class Wide(nn.LayerNorm):
    """Calculates in float32, whatever it takes."""

    def forward(self, x):
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Doubled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Other(NormAct):
    """Leaves a part out."""

    def forward(self, x):
        return self.act(nn.BatchNorm2d.forward(self, x))


@pytest.fixture
def calls(monkeypatch):
    """What our operators are called with as an activation."""
    seen = []
    for name in ("batch_norm", "group_norm", "layer_norm"):
        original = getattr(lh.ops, name)
        monkeypatch.setattr(
            lh.ops, name, lambda *a, _f=original, **k: (seen.append(k.get("activation")), _f(*a, **k))[1]
        )
    return seen


CASES = {
    "activation known": (lambda: NormAct(4, nn.SiLU()), (2, 4, 3, 3), "BatchNorm2d, then drop, act", ["silu"]),
    "activation unknown": (lambda: NormAct(4, nn.Mish()), (2, 4, 3, 3), "BatchNorm2d, then drop, act", [None]),
    "function": (lambda: Rectified(4), (2, 4, 3, 3), "BatchNorm2d, then relu", ["relu"]),
    "group": (lambda: GroupNorm1(4), (2, 4, 3), "GroupNorm", [None]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_taken_apart(case, calls):
    make, shape, text, activations = CASES[case]
    plain = nn.Sequential(make())
    model = lh.convert(copy.deepcopy(plain))
    assert lh.nn.explain(model).recognised == lh.nn.explain(plain).recognised == {"0": text}
    x = torch.randn(shape)
    calls.clear()
    torch.testing.assert_close(model(x), plain(x))
    assert calls == activations
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
    gradients = [torch.autograd.grad(m(x).square().sum(), list(m.parameters())) for m in (model, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)  # sums of tens of terms of 1
    torch.testing.assert_close(model.eval()(x), plain.eval()(x))
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x), plain(x))
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), plain(x))
    assert isinstance(model[0], type(plain[0]))
    assert type(lh.nn.unconvert(model)[0]) is type(plain[0])


def test_parts_that_are_hooked_or_exchanged_do_what_they_do(calls):
    plain, heard = NormAct(4, nn.ReLU()), []
    model, x = lh.convert(copy.deepcopy(plain)), torch.randn(2, 4, 3, 3)
    with model.drop.register_forward_hook(lambda *a: heard.append(a[2])):
        torch.testing.assert_close(model(x), plain(x))
    assert len(heard) == 1
    assert float(heard[0].detach().min()) < 0
    for m in (model, plain):
        m.act, m.drop = nn.Tanh(), nn.Softplus()
    torch.testing.assert_close(model(x), plain(x))


def test_what_does_something_else_is_left():
    for make in (lambda: Doubled(4), lambda: Other(4, nn.ReLU())):
        plain = make()
        assert list(lh.nn.explain(nn.Sequential(plain)).left) == ["0"]
        assert type(lh.convert(copy.deepcopy(plain))) is type(plain)


def test_types_and_dimensions_that_were_not_tried_take_the_way_of_the_class(calls):
    wide = lh.convert(Wide(6))
    assert lh.nn.explain(wide).recognised
    x = torch.randn(3, 6)
    calls.clear()
    mixed = wide(x.bfloat16())
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed, Wide(6)(x.bfloat16()))
    with torch.autocast("cpu", torch.bfloat16):
        wide(x)
    assert not calls
    plain = NormAct(4, nn.ReLU())
    model, flat = lh.convert(copy.deepcopy(plain)), torch.randn(5, 4)
    torch.testing.assert_close(model(flat), plain(flat))  # which F.batch_norm takes, and BatchNorm2d does not
