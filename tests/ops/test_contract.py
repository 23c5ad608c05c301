"""The contract of every normalizer: against float64 oracles, over types, layouts and hard inputs."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch.nn import functional as F

from levelhead import ops

GROUPS = 2
EPS = 1e-5


class Norm:
    """One normalizer in three forms: ours, PyTorch's, and the oracle's grouping of values."""

    def __init__(self, kind: str):
        self.kind = kind
        self.center = kind != "rms"

    def __repr__(self):
        return self.kind

    def parameters(self, x):
        size = x.shape[-1] if self.kind in ("layer", "rms") else x.shape[1]
        weight = torch.linspace(0.5, 1.5, size, dtype=torch.float64).to(x.dtype)
        bias = torch.linspace(-1, 1, size, dtype=torch.float64).to(x.dtype)
        return weight, None if self.kind == "rms" else bias

    def _call(self, module, x, weight, bias, **extras):
        if self.kind == "batch":
            return module.batch_norm(x, None, None, weight, bias, True, 0.1, EPS, **extras)
        if self.kind == "instance":
            return module.instance_norm(x, None, None, weight, bias, eps=EPS, **extras)
        if self.kind == "group":
            return module.group_norm(x, GROUPS, weight, bias, EPS, **extras)
        if self.kind == "layer":
            return module.layer_norm(x, (x.shape[-1],), weight, bias, EPS, **extras)
        return module.rms_norm(x, (x.shape[-1],), weight, EPS, **extras)

    def ours(self, x, weight=None, bias=None, **extras):
        return self._call(ops, x, weight, bias, **extras)

    def torchs(self, x, weight=None, bias=None):
        return self._call(F, x, weight, bias)

    def oracle(self, x, weight=None, bias=None):
        x = x.detach().double().cpu().numpy()
        z = oracles.normalize(x, oracles.grouping(self.kind, x.shape, GROUPS), EPS, self.center)
        w, b = self.broadcast(weight, x.ndim), self.broadcast(bias, x.ndim)
        return z * (1 if w is None else w) + (0 if b is None else b)

    def broadcast(self, parameter, ndim):
        if parameter is None:
            return None
        array = parameter.detach().double().cpu().numpy()
        return array if self.kind in ("layer", "rms") else array.reshape(-1, *[1] * (ndim - 2))


NORMS = [Norm(kind) for kind in ("batch", "layer", "rms", "group", "instance")]
norms = pytest.mark.parametrize("norm", NORMS, ids=str)


def layouts(x):
    """The same values in other orders in memory."""
    wide = torch.empty(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)[..., ::2].copy_(x)
    return {
        "contiguous": x,
        "channels_last": x.to(memory_format=torch.channels_last),
        "strided": wide,
        "transposed": x.transpose(0, -1).contiguous().transpose(0, -1),
        "misaligned": torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape).copy_(x),
    }


def close(ours, oracle, dtype, backend):
    """The reference calculates in float64 and rounds its result once: half a unit in the last place of ``dtype``.

    The absolute part is what float64 leaves of a value at offset 1e6, and a subnormal of float16. The kernels calculate
    float32 and the types of 16 bits in float32: a sum in blocks, a product with the weight and a sum with the bias,
    each of a few units in the last place, of values up to 4.
    """
    ours = ours.detach().double().cpu().numpy()
    relative = torch.finfo(dtype).eps
    absolute = 6e-8 if dtype == torch.float16 else 1e-9
    if backend in ("cpu", "triton") and dtype != torch.float64:
        absolute = 16 * torch.finfo(torch.float32).eps
    np.testing.assert_allclose(ours, oracle, rtol=relative, atol=absolute)


@norms
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "transposed", "misaligned"])
def test_forward_against_the_oracle(forced, norm, dtype, layout):
    x = layouts(torch.randn(3, 4, 5, 7, dtype=torch.float64).to(dtype))[layout]
    weight, bias = norm.parameters(x)
    y = norm.ours(x, weight, bias)
    assert y.dtype == dtype
    assert y.shape == x.shape
    close(y, norm.oracle(x, weight, bias), dtype, forced)
    if norm.kind in ("layer", "rms"):
        assert y.is_contiguous(), "as PyTorch's layer norm gives them"
    elif layout in ("contiguous", "channels_last", "misaligned"):
        assert y.stride() == x.stride()


@norms
@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_large_offset_costs_no_digits(forced, norm, offset, layout):
    x = layouts(torch.randn(8, 4, 6, 6) + offset)[layout]
    close(norm.ours(x), norm.oracle(x), torch.float32, forced)


@pytest.mark.parametrize("shape", [(2, 8, 16, 16), (8, 64, 32, 32)])
def test_group_norm_has_the_same_digits_in_channels_last_memory_at_every_size(shape):
    x = (torch.randn(shape) + 1e4).contiguous(memory_format=torch.channels_last)
    right = F.group_norm(x.double().contiguous(), 4)
    assert (F.group_norm(x, 4) - right).abs().max() > 100, "PyTorch's kernel, the negative control"
    y = ops.group_norm(x, 4)
    torch.testing.assert_close(y.double(), right, rtol=0, atol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_pytorch_loses_digits_where_the_reference_does_not(forced):
    """The negative control of the test above: the input is hard, not the tolerance wide."""
    x = torch.randn(8, 4, 6, 6) + 1e4
    norm = NORMS[0]
    oracle = norm.oracle(x)
    assert np.abs(norm.torchs(x).double().cpu().numpy() - oracle).max() > 1e-4
    assert np.abs(norm.ours(x).double().cpu().numpy() - oracle).max() < 1e-6


@norms
def test_values_near_1e30_stay_finite_and_right(forced, norm):
    x = torch.randn(4, 4, 5, 5) * 1e30
    y = norm.ours(x)
    close(y, norm.oracle(x), torch.float32, forced)
    assert y.abs().max() > 0.5  # not the zeros that an overflow of the variance would give


@norms
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65])
def test_lengths_around_the_vector_width(backend, norm, length):
    if length == 1 and norm.kind == "instance":
        pytest.skip("an instance of one value is an error, tested elsewhere")
    x = torch.randn(3, 4, length)
    ours, oracle = norm.ours(x).double().cpu().numpy(), norm.oracle(x)
    np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=2e-6)  # float32 sums of up to 200 values, PyTorch's too


@norms
def test_constant_rows_give_the_bias(forced, norm):
    if not norm.center:
        pytest.skip("the root mean square of a constant is not 0")
    x = torch.full((3, 4, 2, 5), 7.0)
    weight, bias = norm.parameters(x)
    expected = np.broadcast_to(norm.broadcast(bias, 4), x.shape)
    np.testing.assert_allclose(norm.ours(x, weight, bias).cpu().numpy(), expected, atol=1e-7)


@norms
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_in_its_group(backend, norm, bad):
    x = torch.randn(3, 4, 5, 5)
    x[1, 2, 3, 4] = bad
    with np.errstate(invalid="ignore"):
        oracle = norm.oracle(x)
    np.testing.assert_array_equal(np.isnan(norm.ours(x).cpu().numpy()), np.isnan(oracle))


@norms
@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3)])
def test_empty(backend, norm, shape):
    x = torch.empty(shape, requires_grad=True)
    y = norm.ours(x)
    assert y.shape == shape
    y.sum().backward()
    assert x.grad.shape == shape


@norms
@pytest.mark.parametrize("activation", list(oracles.ACTIVATIONS))
@pytest.mark.parametrize("with_residual", [False, True])
def test_backward_against_the_oracle(backend, norm, activation, with_residual):
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = norm.parameters(x)
    residual = torch.randn_like(x) if with_residual else None
    inputs = [t.requires_grad_() for t in (x, weight, bias, residual) if t is not None]
    extras = {"activation": activation, "residual": residual}
    y = norm.ours(x, weight, bias, **extras)
    dy = torch.randn_like(y)
    got = dict(zip(map(id, inputs), torch.autograd.grad(y, inputs, dy), strict=True))

    u = norm.oracle(x, weight, bias) + (0 if residual is None else residual.detach().cpu().numpy())
    np.testing.assert_allclose(y.detach().cpu().numpy(), oracles.ACTIVATIONS[activation](u), rtol=1e-12, atol=1e-12)
    g = dy.cpu().numpy() * oracles.slope(activation, u)
    at = oracles.grouping(norm.kind, tuple(x.shape), GROUPS)
    dx = oracles.normalize_backward(g * norm.broadcast(weight, 4), x.detach().cpu().numpy(), at, EPS, norm.center)
    others = (0, 1, 2) if norm.kind in ("layer", "rms") else (0, 2, 3)
    expected = {id(x): dx, id(weight): (g * norm.oracle(x)).sum(others), id(residual): g}
    if bias is not None:
        expected[id(bias)] = g.sum(others)
    for key, value in got.items():  # the oracle's slope is a difference quotient, good to about 1e-9
        np.testing.assert_allclose(value.cpu().numpy(), expected[key], rtol=1e-7, atol=1e-7)


@norms
@pytest.mark.parametrize("activation", list(oracles.ACTIVATIONS))
def test_first_and_second_derivatives(backend, norm, activation):
    if backend == "triton" and activation not in (None, "gelu"):
        pytest.skip("the interpreter takes long; all gradients are compared with the oracle's above")
    x = torch.randn(2, 4, 1, 3, dtype=torch.float64, requires_grad=True)
    weight, bias = norm.parameters(x)
    residual = torch.randn_like(x, requires_grad=True)
    parameters = [t.requires_grad_() for t in (weight, bias) if t is not None]

    def call(x, residual, *parameters):
        return norm.ours(x, *parameters, activation=activation, residual=residual)

    # Element by element, or along one direction at random where it is slow or was done before.
    assert torch.autograd.gradcheck(call, (x, residual, *parameters), fast_mode=backend == "triton")
    assert torch.autograd.gradgradcheck(call, (x, residual, *parameters), fast_mode=backend in ("default", "triton"))


@norms
def test_saved_statistics_are_wide(forced, norm):
    """Half precision goes in, float32 or better is kept."""
    x = torch.randn(3, 4, 5, dtype=torch.bfloat16, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.dtype) or t, lambda t: t):
        norm.ours(x)
    assert torch.bfloat16 in saved  # x itself
    assert set(saved) - {torch.bfloat16} == {torch.float64}


@norms
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("input_dtype", ["low", "float32"])
def test_autocast_gives_the_types_of_pytorch(backend, norm, dtype, input_dtype):
    x = torch.randn(3, 4, 5)
    weight, bias = norm.parameters(x)
    x = x.to(dtype) if input_dtype == "low" else x
    with torch.autocast("cpu", dtype=dtype):
        if norm.kind == "rms" and input_dtype == "low":
            expected = x.dtype  # PyTorch's, which warns that it takes no fused kernel
            weight = weight.to(dtype)
        else:
            expected = norm.torchs(x, weight, bias).dtype
        y = norm.ours(x, weight, bias, residual=torch.randn(x.shape))
        plain = norm.ours(x, weight, bias)
    assert plain.dtype == expected
    assert y.dtype == torch.promote_types(expected, torch.float32)


def test_unknown_activation_is_named(backend):
    with pytest.raises(ValueError, match="unknown activation 'rleu'; choose one of relu, leaky_relu"):
        ops.layer_norm(torch.randn(2, 3), (3,), activation="rleu")


def test_residual_of_another_shape_is_refused(backend):
    with pytest.raises(ValueError, match=r"shape of the input, \(2, 3\), but got \(3,\)"):
        ops.layer_norm(torch.randn(2, 3), (3,), residual=torch.randn(3))
