"""Batch norm in place: the results of the ordinary one, of which the output alone is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import levelhead as lh
from levelhead import ops

ACTIVATIONS = {None: lambda u: u, "leaky_relu": F.leaky_relu, "elu": F.elu}
activations = pytest.mark.parametrize("activation", ACTIVATIONS)
LAST = torch.channels_last


def gradients(x, weight, bias, training, activation, dtype, memory):
    """The result in ``dtype`` and the gradients; ``memory="float64"`` is PyTorch's in float64."""
    wide = memory == "float64"
    cast = torch.float64 if wide else dtype
    parameter_type = torch.float32 if cast.itemsize == 2 else cast
    leaf = x.to(dtype).to(cast).requires_grad_()
    w, b = (t.to(torch.float32).to(parameter_type).requires_grad_() for t in (weight, bias))
    running = torch.linspace(-1, 1, len(w), dtype=parameter_type), torch.linspace(0.5, 2, len(w), dtype=parameter_type)
    dy = torch.cos(torch.arange(x.numel(), dtype=torch.float64)).view(x.shape).to(dtype).to(cast)
    if wide:
        y = ACTIVATIONS[activation](F.batch_norm(leaf * 1, *running, w, b, training))
    else:
        y = ops.batch_norm(leaf * 1, *running, w, b, training, activation=activation, memory=memory)
    result = y.detach().double()
    return result, *(g.double() for g in torch.autograd.grad(y, (leaf, w, b), dy)), *(t.double() for t in running)


@activations
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 6, 7, 9), (40, 6), (3, 33, 5), (2, 4, 16, 16)], ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_exact_as_the_ordinary_one(forced, activation, training, shape, last, dtype):
    """Also where the weight is 0 or small against the bias, as in a block whose last weight begins at 0.

    z is recovered with at most 32 times the rounding of y, and y is rounded to ``dtype`` where x
    was given, so the bound is the ordinary error and some units in the last place.
    """
    if last and len(shape) < 4:
        pytest.skip("channels-last has four dimensions")
    x = torch.randn(shape, dtype=torch.float64)
    x = x.contiguous(memory_format=LAST) if last else x
    weight, bias = torch.randn(shape[1]), torch.randn(shape[1])
    weight[0], bias[0], weight[1], bias[1] = 0, 0, 0.01, 3
    ours, ordinary, exact = (
        gradients(x, weight, bias, training, activation, dtype, memory) for memory in ("inplace", None, "float64")
    )
    for a, b, c in zip(ours, ordinary, exact, strict=True):
        size = c.abs().max()
        assert (a - c).abs().max() <= 2 * (b - c).abs().max() + 8 * torch.finfo(dtype).eps * size


def kept_by(call):
    """The tensors that the graph of ``call()`` keeps, and its result."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        y = call()
    return kept, y


@activations
def test_the_output_alone_is_kept_and_takes_the_place_of_an_intermediate_result(forced, activation):
    leaf = torch.randn(4, 6, 5, 7, requires_grad=True)
    x = leaf + 0
    kept, y = kept_by(lambda: ops.batch_norm(x, None, None, training=True, activation=activation, memory="inplace"))
    assert y.data_ptr() in kept
    if activation == "elu":  # whose output tells only afterwards whether x must be kept
        assert x.data_ptr() not in kept
    else:
        assert y.data_ptr() == x.data_ptr()
    ordinary, y = kept_by(lambda: ops.batch_norm(leaf, None, None, training=True, activation=activation))
    assert leaf.data_ptr() in ordinary
    assert y.data_ptr() not in ordinary


def test_the_users_data_and_views_are_not_overwritten(forced):
    weight = torch.ones(6, requires_grad=True)
    data = torch.randn(4, 6, 5)
    base = torch.randn(4, 12, 5, requires_grad=True) * 1
    for x in (data, base.chunk(2, dim=1)[0], base[:, :6]):
        before = x.detach().clone()
        y = ops.batch_norm(x, None, None, weight, training=True, memory="inplace")
        torch.autograd.grad(y.sum(), weight)
        assert torch.equal(x, before)
    with torch.no_grad():
        x = torch.relu(data)
        before = x.clone()
        ops.batch_norm(x, None, None, weight, training=True, memory="inplace")
        assert torch.equal(x, before)


def test_a_producer_that_needs_its_output_is_named_by_autograd(forced):
    """PyTorch counts the versions of what is kept: no wrong gradient comes of an x that another backward needs."""
    x = torch.sigmoid(torch.randn(4, 6, 5, requires_grad=True))
    y = ops.batch_norm(x, None, None, training=True, memory="inplace")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_where_elu_is_flat_x_is_kept(forced):
    """One value 20 standard deviations down: elu gives -1, of which no logarithm says how far."""
    x = torch.randn(64, 5, 8, dtype=torch.float64)
    x[0, 2, 0] = -300
    weight, bias = torch.ones(5), torch.zeros(5)
    ours, exact = (gradients(x, weight, bias, True, "elu", torch.float32, m) for m in ("inplace", "float64"))
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


def test_what_cannot_be_done_is_refused():
    x = torch.randn(4, 6)
    for name in ("relu", "gelu", "silu", "tanh"):
        with pytest.raises(ValueError, match=rf"'{name}' does not allow; use activation='leaky_relu', 'elu' or None"):
            ops.batch_norm(x, None, None, training=True, activation=name, memory="inplace")
    with pytest.raises(ValueError, match="takes no residual: add it outside"):
        ops.batch_norm(x, None, None, training=True, memory="inplace", residual=x)
    with pytest.raises(ValueError, match="unknown memory='in place'; choose 'inplace', or None"):
        ops.batch_norm(x, None, None, training=True, memory="in place")
    with pytest.raises(ValueError, match="'relu' does not allow"):
        lh.nn.BatchNorm2d(6, activation="relu", memory="inplace")


def test_second_derivatives_are_refused(forced):
    x = torch.randn(4, 6, requires_grad=True)
    y = ops.batch_norm(x, None, None, training=True, memory="inplace").pow(2).sum()
    with pytest.raises(RuntimeError, match="no second derivatives; use memory=None"):
        torch.autograd.grad(y, x, create_graph=True)


@pytest.mark.parametrize("transform", ["compile", "func"])
def test_compiled_and_transformed_it_is_the_ordinary_one(transform):
    def loss(x):
        y = ops.batch_norm(x * 1, None, None, training=True, activation="leaky_relu", memory="inplace")
        return (y * torch.cos(torch.arange(y.numel())).view_as(y)).sum()

    x = torch.randn(8, 130, 9, 9, requires_grad=True)
    (expected,) = torch.autograd.grad(loss(x), x)
    if transform == "func":
        torch.testing.assert_close(torch.func.grad(loss)(x.detach()), expected, rtol=1e-4, atol=1e-5)
        return
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_chain_of_modules_trains_as_with_pytorch(forced):
    """Convolution, norm, leaky ReLU, twice: the convolution between keeps the very tensor that the norm keeps."""

    def chain(norm, *activation, **extras):
        torch.manual_seed(3)
        blocks = [(nn.Conv2d(3, 3, 3, padding=1), norm(3, **extras), *activation) for _ in range(2)]
        return nn.Sequential(*(module for block in blocks for module in block))

    theirs = chain(nn.BatchNorm2d, nn.LeakyReLU()).double()
    ours = chain(lh.nn.BatchNorm2d, activation="leaky_relu", memory="inplace").double()
    assert "memory='inplace'" in repr(ours)
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in theirs.state_dict().values()]
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for model in (ours, theirs):
        (model(x) ** 2).sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9)
    for model in (ours, theirs):
        model.eval()
    torch.testing.assert_close(ours(x), theirs(x))
