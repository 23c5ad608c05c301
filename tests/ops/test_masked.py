"""Masks: as if what they hide had never been there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from levelhead import ops
from levelhead.ops import cpu, library
from levelhead.ops.spec import Norm

C, L = 4, 6
LENGTHS = (6, 2, 4)


def batch(module, x, w, b, **extras):
    return module.batch_norm(x, None, None, w, b, True, **extras)


def instance(module, x, w, b, **extras):
    return module.instance_norm(x, None, None, w, b, **extras)


def group(module, x, w, b, **extras):
    return module.group_norm(x, 2, w, b, **extras)


def layer(module, x, w, b, **extras):
    return module.layer_norm(x, (C,), w, b, **extras)


def rms(module, x, w, b, **extras):
    return module.rms_norm(x, (C,), w, 1e-5, **extras)


#: The norms, and whether the channels come last.
NORMS = {"batch": (batch, False), "instance": (instance, False), "group": (group, False)}
NORMS |= {"layer": (layer, True), "rms": (rms, True)}
norms = pytest.mark.parametrize(("norm", "last"), NORMS.values(), ids=NORMS)


def padded(last, dtype=torch.float64):
    """Sequences with NaN behind their ends, and where they are."""
    mask = torch.arange(L) < torch.tensor(LENGTHS)[:, None]
    mask = mask[:, :, None] if last else mask[:, None]
    x = torch.randn(len(LENGTHS), *((L, C) if last else (C, L)), dtype=dtype) * 2 + 1
    return x.where(mask, torch.nan), mask


def parameters(dtype=torch.float64):
    return [torch.rand(C, dtype=dtype, requires_grad=True), torch.randn(C, dtype=dtype, requires_grad=True)]


def unpadded(norm, x, w, b, mask, name):
    """PyTorch on what counts alone: the whole batch as rows, or each example for itself."""
    if name == "batch":
        rows = x.transpose(1, 2)[mask[:, 0]]
        y = torch.zeros_like(x.transpose(1, 2)).masked_scatter(mask.transpose(1, 2), norm(F, rows, w, b))
        return y.transpose(1, 2)
    axis = 1 if name in ("layer", "rms") else 2
    parts = [norm(F, x[i : i + 1].narrow(axis, 0, n), w, b) for i, n in enumerate(LENGTHS)]
    pads = [torch.zeros_like(x[:1]).narrow(axis, 0, L - n) for n in LENGTHS]
    return torch.cat([torch.cat(pair, axis) for pair in zip(parts, pads, strict=True)])


@pytest.mark.parametrize("extras", [False, True], ids=["plain", "residual and activation"])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("forced", [None, "reference"])
def test_as_on_the_unpadded_data(monkeypatch, forced, name, extras):
    monkeypatch.setattr(library, "FORCED", forced)
    norm, last = NORMS[name]
    x, mask = padded(last)
    w, b = parameters()
    x.requires_grad_()
    residual = torch.randn_like(x).where(mask, torch.inf).requires_grad_() if extras else None
    inputs = [x, w, *([] if name == "rms" else [b]), *([residual] if extras else [])]
    more = {"residual": residual, "activation": "gelu"} if extras else {}
    y = norm(ops, x, w, b, mask=mask, **more)
    expected = unpadded(norm, x, w, b, mask, name)
    if extras:
        expected = F.gelu(expected + residual.where(mask, 0)).where(mask, 0)
    torch.testing.assert_close(y, expected)
    dy = torch.randn_like(x).nan_to_num().where(mask, torch.nan)  # a NaN that comes back is hidden too
    found = torch.autograd.grad(y, inputs, dy)
    truth = torch.autograd.grad(expected, inputs, dy.nan_to_num())
    torch.testing.assert_close(found, tuple(t.nan_to_num() for t in truth))
    assert bool((found[0].masked_select(~mask) == 0).all())
    assert bool((y.masked_select(~mask) == 0).all())


@norms
def test_any_mask_by_hand(norm, last):
    """Another mask for every value, and a large mean in float32; the statistics by NumPy in float64."""
    shape, axes = ((5, L, C), (2,)) if last else ((5, C, L), {"batch": (0, 2), "instance": (2,)}.get(norm.__name__))
    x = torch.randn(shape) + 1e4
    mask = torch.rand(shape) < 0.7
    if norm is group:
        shape, axes = (5, 2, C // 2, L), (2, 3)
    y = norm(ops, x, None, None, mask=mask)
    values = np.where(mask, x.double(), np.nan).reshape(shape)
    mean = 0 if norm is rms else np.nanmean(values, axes, keepdims=True)
    square = np.nanmean((values - mean) ** 2, axes, keepdims=True)
    expected = np.nan_to_num((values - mean) / np.sqrt(square + 1e-5)).reshape(y.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


@norms
def test_first_and_second_derivatives(norm, last):
    x, mask = padded(last)
    mask = mask & (torch.rand(x.shape) < 0.8)
    w, b = parameters()
    x, residual = x.nan_to_num().requires_grad_(), torch.randn_like(x).requires_grad_()

    def call(x, w, b, residual):
        return norm(ops, x, w, b, mask=mask, residual=residual, activation="silu")

    assert torch.autograd.gradcheck(call, (x, w, b, residual), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, w, b, residual), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    x, mask = padded(False, dtype)
    y = ops.batch_norm(x, None, None, training=True, mask=mask)
    assert y.dtype == dtype


@pytest.mark.skipif(not cpu.PRESENT, reason="the compiled kernels are absent")
@pytest.mark.parametrize("name", NORMS)
def test_masks_go_through_the_kernels(name, monkeypatch):
    served = []
    for way in ("forward", "backward"):
        original = getattr(cpu.Plan, way)
        monkeypatch.setattr(cpu.Plan, way, lambda *a, f=original, n=way: served.append(n) or f(*a))
    norm, last = NORMS[name]
    x, mask = padded(last)
    norm(ops, x.requires_grad_(), None, None, mask=mask).sum().backward()
    assert served == ["forward", "backward"]


def test_running_estimates_are_of_what_counts():
    x, mask = padded(False)
    kept, truth = [torch.zeros(2, C, dtype=torch.float64) for _ in range(2)]
    ops.batch_norm(x, *kept, training=True, momentum=0.3, mask=mask)
    F.batch_norm(x.transpose(1, 2)[mask[:, 0]], *truth, training=True, momentum=0.3)
    torch.testing.assert_close(kept, truth)
    ops.instance_norm(x, *kept.zero_(), momentum=0.3, mask=mask)
    truth.zero_()
    parts = [x[i, :, :n] for i, n in enumerate(LENGTHS)]
    truth[0] = 0.3 * torch.stack([p.mean(1) for p in parts]).mean(0)
    truth[1] = 0.3 * torch.stack([p.var(1) for p in parts]).mean(0)
    torch.testing.assert_close(kept, truth)


def test_a_channel_of_which_nothing_counts_keeps_its_estimates():
    kept = torch.ones(2, C)
    x = torch.randn(8, C) + 3
    x[:, 1] = torch.nan
    y = ops.batch_norm(x, *kept, training=True, mask=torch.arange(C) != 1)
    assert kept[:, 1].tolist() == [1, 1]
    assert kept[0, 0] != 1
    assert not y.isnan().any()


@norms
def test_in_eval_mode_and_in_rows_that_are_all_padding(norm, last):
    x, mask = padded(last)
    mask = mask.clone()
    mask[1] = False
    y = norm(ops, x, None, None, mask=mask)
    assert not y.isnan().any()
    assert not y[1].any()
    given = torch.zeros(C, dtype=torch.float64), torch.ones(C, dtype=torch.float64)
    if not last:
        y = ops.batch_norm(x, *given, eps=0.0, mask=mask)
        torch.testing.assert_close(y, x.where(mask, 0))


def test_the_residual_of_another_type():
    x, mask = padded(False, torch.float32)
    residual = torch.randn_like(x.double()).where(mask, torch.nan).requires_grad_()
    y = ops.batch_norm(x, None, None, training=True, residual=residual, activation="silu", mask=mask)
    (gradient,) = torch.autograd.grad(y.sum(), residual)
    assert not y.isnan().any()
    assert not gradient.isnan().any()


@norms
def test_under_transforms(norm, last):
    x, mask = padded(last)
    w, b = (p.detach() for p in parameters())
    found = torch.func.grad(lambda x: norm(ops, x, w, b, mask=mask).pow(3).sum())(x)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(norm(ops, x, w, b, mask=mask).pow(3).sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("present", [False, True])
def test_opcheck(present):
    x, mask = padded(False)
    w, b = (p.detach().requires_grad_() for p in parameters())
    tensors = (mask.expand(x.shape), w, b, torch.randn_like(x)) if present else (None,) * 4
    norm = Norm("batch", 0, 1e-5, "silu" if present else "")
    inputs = (x.nan_to_num().requires_grad_(), *tensors, "", *norm)
    torch.library.opcheck(torch.ops.levelhead.normalize_counted, inputs)


def test_compiled():
    x, mask = padded(True)
    w, b = parameters()
    compiled = torch.compile(lambda x: layer(ops, x, w, b, mask=mask), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(ops, x, w, b, mask=mask))


class TestBadInput:
    def refuse(self, error, match, mask, shape=(3, 4, 5)):
        with pytest.raises(error, match=match):
            ops.batch_norm(torch.randn(shape), None, None, training=True, mask=mask)

    def test_another_shape(self):
        self.refuse(
            ValueError, r"mask of shape \(2, 5\) cannot be broadcast to x of shape \(3, 4, 5\)$", torch.ones(2, 5) > 0
        )

    def test_the_first_dimensions(self):
        self.refuse(ValueError, r"fits the first dimensions: try mask.view\(3, 4, 1\)", torch.ones(3, 4) > 0)

    def test_not_boolean(self):
        self.refuse(TypeError, r"must be boolean.*torch.float32", torch.ones(3, 4, 5))

    def test_nothing_counts(self):
        self.refuse(ValueError, "leaves nothing", torch.zeros(3, 4, 5) > 0)

    def test_one_value_counts(self):
        self.refuse(ValueError, "more than 1 value per channel", torch.arange(5) == 0, (1, 4, 5))

    def test_forced_kernels_do_not_fall_back(self, monkeypatch):
        monkeypatch.setattr(library, "FORCED", "triton")
        self.refuse(RuntimeError, "LEVELHEAD_BACKEND=triton cannot serve a mask", torch.ones(3, 4, 5) > 0)
