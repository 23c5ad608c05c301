"""One answer at every size, as dispatched: no backend is forced, and rows alone equal rows in company."""

import itertools
import math
import warnings

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

import levelhead as lh
from levelhead import kinds, ops

SIZES = [1, 2, 300, 2**15]  # rows of 4 and 8: below and beyond what used to go to PyTorch
TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("norm", [lh.nn.LayerNorm(4), lh.nn.RMSNorm(4), lh.nn.GroupNorm(2, 4)])
def test_a_row_has_one_answer_alone_and_in_company(norm, rows):
    x = torch.randn(2**15, 4) + 1e4
    assert torch.equal(norm(x[:1]), norm(x[:rows])[:1])
    wide = x[:rows].double()
    exact = kinds.of(norm).base(*((2, 4) if isinstance(norm, nn.GroupNorm) else (4,)), dtype=torch.float64)(wide)
    # float32 holds (x - mean) exactly here; what is left is the rounding of the result.
    torch.testing.assert_close(norm(x[:rows]).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("rows", [2, 30, 4000])
def test_batch_norm_keeps_its_digits_at_every_size(rows, offset):
    x = torch.randn(rows, 8) + offset
    exact = F.batch_norm(x.double(), None, None, training=True)
    torch.testing.assert_close(ops.batch_norm(x, None, None, training=True).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [20, 3000])
def test_large_values_do_not_overflow(rows):
    x = torch.randn(rows, 100) * 1e19
    channels = x.view(-1, 20, 5)
    for y in (
        ops.layer_norm(x, (100,)),
        ops.rms_norm(x, (100,)),
        ops.group_norm(x, 4),
        ops.batch_norm(x, None, None, training=True),
        ops.instance_norm(channels),
    ):
        assert abs(float(y.square().mean()) - 1) < 1e-2


def layouts(x):
    yield x
    if x.ndim == 4:
        yield x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(1000, 1), (2, 1000, 1), (2, 8, 3), (2, 32, 16, 16), (4, 32, 64, 64)])
def test_a_constant_is_zero(shape):
    bias = torch.randn(shape[1])
    for x in layouts(torch.full(shape, 12345.678)):
        expected = bias.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)
        assert torch.equal(ops.batch_norm(x, None, None, None, bias, training=True), expected)
        assert torch.equal(ops.group_norm(x, math.gcd(4, shape[1]), None, bias), expected)
        if math.prod(shape[2:]) > 1:
            assert torch.equal(ops.instance_norm(x, None, None, None, bias), expected)
        assert not ops.layer_norm(x, shape[1:]).any()


def test_one_value_a_group_is_the_bias():
    norm = lh.nn.GroupNorm(4, 4).eval()
    nn.init.normal_(norm.bias)
    assert torch.equal(norm(torch.randn(1, 4))[0], norm.bias)


def results(call, x, weight):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's RMS norm warns that its fused kernel takes no mixed types
            y = call(x, weight)
    except (RuntimeError, NotImplementedError) as error:
        return type(error)
    y.float().square().sum().backward()
    return y.dtype, x.grad.dtype, weight.grad.dtype


CALLS = {
    "layer": (lambda f, x, w: f.layer_norm(x, (8,), w), (8,)),
    "rms": (lambda f, x, w: f.rms_norm(x, (8,), w), (8,)),
    "group": (lambda f, x, w: f.group_norm(x, 2, w), (8, 3)),
    "batch": (lambda f, x, w: f.batch_norm(x, None, None, w, None, True), (8, 3)),
    "instance": (lambda f, x, w: f.instance_norm(x, None, None, w), (8, 3)),
}


@pytest.mark.parametrize("rows", [3, 4000])
@pytest.mark.parametrize(("dtype", "of_weight"), list(itertools.product(TYPES, TYPES)))
@pytest.mark.parametrize("name", CALLS)
def test_types_are_those_that_pytorch_takes(name, dtype, of_weight, rows):
    call, shape = CALLS[name]
    found = []
    for functions in (ops, F):
        x = torch.randn(rows, *shape, dtype=torch.float64).to(dtype).requires_grad_()
        weight = torch.ones(8, dtype=of_weight, requires_grad=True)
        found.append(results(lambda a, b, functions=functions: call(functions, a, b), x, weight))
    assert found[0] == found[1]


@pytest.mark.parametrize("rows", [2, 20000])
def test_complex_numbers_are_refused_alike(rows):
    with pytest.raises(NotImplementedError, match=r"floating point tensors, got torch\.complex64"):
        lh.nn.RMSNorm(4)(torch.randn(rows, 4, dtype=torch.complex64))


@pytest.mark.parametrize("rows", [3, 40000])
def test_a_negative_bit_is_not_lost(rows):
    x = torch._neg_view(torch.randn(rows, 8))
    values = x.resolve_neg()
    assert torch.equal(ops.layer_norm(x, (8,)), ops.layer_norm(values, (8,)))
    assert torch.equal(
        ops.batch_norm(values, None, None, training=True, residual=x),
        ops.batch_norm(values, None, None, training=True, residual=values),
    )
    assert torch.equal(ops.dropout_add(x, x, 0.0), x + x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6, 4), (40000, 4), (3, 4, 5), (30, 4, 700)])
def test_an_infinite_channel_has_an_infinite_mean(shape, dtype):
    x = torch.randn(shape, dtype=dtype)
    x[0, 1, ...] = float("inf")
    x[0, 2, ...] = float("-inf")
    norm, theirs = lh.nn.BatchNorm1d(4, dtype=dtype), nn.BatchNorm1d(4, dtype=dtype)
    norm(x)
    theirs(x)
    torch.testing.assert_close(norm.running_mean, theirs.running_mean)
    torch.testing.assert_close(norm.running_var, theirs.running_var, equal_nan=True)


@pytest.mark.parametrize("rows", [3, 20000])
def test_relu_lets_the_gradient_through_at_nan(rows):
    x, dy = torch.randn(rows, 8), torch.ones(rows, 8)
    x[1, 3] = float("nan")
    found = []
    for call in (
        lambda b: ops.batch_norm(x, None, None, None, b, True, activation="relu"),
        lambda b: torch.relu(F.batch_norm(x, None, None, None, b, True)),
    ):
        bias = torch.zeros(8, requires_grad=True)
        found.append(torch.autograd.grad(call(bias), bias, dy)[0])
    assert found[0][3] == rows
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("rows", [3, 20000])
def test_a_bias_without_a_weight(rows):
    x, bias = torch.randn(rows, 8), torch.randn(8)
    torch.testing.assert_close(ops.group_norm(x, 2, None, bias), F.group_norm(x, 2) + bias)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("policy", [{}, {"statistics": "debiased"}])
def test_running_estimates_of_16_bits_do_not_stand_still(dtype, policy):
    norm = lh.nn.BatchNorm1d(3, dtype=dtype, **policy)
    for _ in range(300):
        norm(torch.full((8, 3), 100.0, dtype=dtype))
    assert torch.equal(norm.running_mean, torch.full((3,), 100.0, dtype=dtype))
    assert list(norm.state_dict()) == list(nn.BatchNorm1d(3).state_dict())
    norm.load_state_dict(nn.BatchNorm1d(3, dtype=dtype).state_dict())
    norm.eval()
    assert not norm.running_mean.any()


def test_a_state_dict_without_a_count_says_so():
    norm = lh.nn.BatchNorm1d(3)
    norm(torch.randn(4, 3))
    state = {name: value for name, value in norm.state_dict().items() if name != "num_batches_tracked"}
    with pytest.warns(UserWarning, match="no num_batches_tracked.*keeps its count of 1 batches"):
        norm.load_state_dict(state)  # without metadata, as of PyTorch 0.4
    assert int(norm.num_batches_tracked) == 1


def test_in_place_is_refused_in_16_bits():
    with pytest.raises(ValueError, match=r"memory='inplace' recovers .* torch\.bfloat16 rounds it"):
        ops.batch_norm(torch.zeros(4, 3, dtype=torch.bfloat16), None, None, training=True, memory="inplace")


def test_masked_rms_norm_of_infinity_as_pytorch():
    x = torch.tensor([[1.0, 2.0, float("inf"), 7.0]])
    mask = torch.tensor([[True, True, True, False]])
    torch.testing.assert_close(ops.rms_norm(x, (4,), mask=mask)[:, :3], F.rms_norm(x[:, :3], (3,)), equal_nan=True)


def test_third_derivatives_of_layer_norm():
    x = torch.randn(5, dtype=torch.float64)
    weight = torch.randn(5, dtype=torch.float64)

    def second(x):
        x = x.requires_grad_()
        y = (ops.layer_norm(x, (5,)) * weight).sum() ** 2
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        (found,) = torch.autograd.grad((first * weight.roll(1)).sum(), x, create_graph=True)
        return found

    (third,) = torch.autograd.grad((second(x) * weight.roll(2)).sum(), x)
    x = x.detach()
    step = 1e-5
    for i in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[i] = step
        change = (second(x + shift) - second(x - shift)).detach() / (2 * step)
        numeric = float((change * weight.roll(2)).sum())
        assert abs(float(third[i]) - numeric) <= 1e-5 * max(1, abs(numeric))


class EveryNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.images = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.GroupNorm(2, 8),
            nn.InstanceNorm2d(8),
            nn.Dropout2d(0.2),
        )
        self.layer, self.rms, self.drop, self.batch = nn.LayerNorm(8), nn.RMSNorm(8), nn.Dropout(0.1), nn.BatchNorm1d(8)
        self.alpha = nn.AlphaDropout(0.1)

    def forward(self, x):
        h = self.images(x).mean((2, 3))
        return ops.layer_norm(self.alpha(self.batch(self.drop(self.layer(h) + self.rms(h)))), (8,))


@pytest.mark.parametrize("training", [True, False])
def test_fx_traces_converted_models(training):
    model = lh.convert(EveryNorm()).train(training)
    traced = symbolic_trace(model).train(training)
    x = torch.randn(4, 3, 9, 9)
    found = []
    for each in (model, traced):
        torch.manual_seed(1)
        found.append(each(x))
    assert torch.equal(*found)
    assert {"images.3", "layer", "rms", "batch"} <= {node.target for node in traced.graph.nodes}


@pytest.mark.parametrize("training", [True, False])
def test_an_exported_program_takes_any_batch(training):
    model = lh.convert(nn.Sequential(nn.LayerNorm(64), nn.GroupNorm(2, 64), nn.RMSNorm(64), nn.BatchNorm1d(64)))
    model.train(training)
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (torch.randn(4, 64),), dynamic_shapes=dynamic).module()
    for rows in (2, 5000):
        x = torch.randn(rows, 64)
        torch.testing.assert_close(program(x), model(x))
