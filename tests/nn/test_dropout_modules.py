"""The modules of dropout against their namesakes."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

import levelhead as lh
from levelhead import ops

SHAPES = {
    "Dropout": [(5,), (4, 6), (2, 3, 4, 5)],
    "Dropout1d": [(3, 40), (2, 3, 40)],
    "Dropout2d": [(2, 3, 4, 5)],
    "Dropout3d": [(3, 4, 5, 2), (2, 3, 4, 5, 2)],
    "AlphaDropout": [(4, 6)],
    "FeatureAlphaDropout": [(2, 3, 4, 5)],
}
names = pytest.mark.parametrize("name", SHAPES)


def pair(name, *args, **kwargs):
    return getattr(lh.nn, name)(*args, **kwargs), getattr(nn, name)(*args, **kwargs)


@names
@pytest.mark.parametrize("args", [(), (0.3,), (0.3, True), (0.0,), (1.0,)])
def test_constructor_and_evaluation(name, args):
    ours, theirs = pair(name, *args)
    assert isinstance(ours, type(theirs))
    assert repr(ours) == f"lh.{theirs!r}"
    assert ours.state_dict() == theirs.state_dict()
    for shape in SHAPES[name]:
        x = torch.randn(shape)
        assert torch.equal(ours.eval()(x), theirs.eval()(x))


@names
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_rates_in_training(name, p):
    ours, theirs = pair(name, p)
    for shape in SHAPES[name]:
        x = torch.randn(shape)
        assert torch.equal(ours(x), theirs(x))


@names
@pytest.mark.parametrize("p", [-0.5, 1.5])
def test_a_rate_out_of_range_is_refused(name, p):
    for module in pair(name):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
            type(module)(p)
        module.p = p
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
            module(torch.randn(SHAPES[name][-1]))


@pytest.mark.parametrize(("name", "shape"), [("Dropout1d", (4,)), ("Dropout1d", (1, 2, 3, 4)), ("Dropout2d", (4,))])
@pytest.mark.filterwarnings("ignore:dropout2d:UserWarning")  # both deprecate what they then refuse
def test_shapes_that_pytorch_refuses(name, shape):
    for module in pair(name):
        with pytest.raises(
            RuntimeError, match=r"dropout1d: Expected 2D or 3D input|Feature dropout requires at least 2"
        ):
            module(torch.randn(shape))


@pytest.mark.parametrize(("name", "shape"), [("Dropout2d", (2, 3, 4)), ("Dropout2d", (2, 3)), ("Dropout3d", (2, 3, 4))])
def test_shapes_that_pytorch_warns_of(name, shape):
    for module in pair(name):
        with pytest.warns(UserWarning, match=f"{name.lower()}: Received a"):
            assert module(torch.randn(shape)).shape == shape


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_kept_has_the_values_of_pytorch(name, dtype):
    """Each element is dropped or kept; both results are among the two that PyTorch gives in some call."""
    ours, theirs = pair(name, 0.5)  # a rate that 16 bits hold, so that the scales agree
    for shape in SHAPES[name]:
        x = torch.randn(shape, dtype=dtype)
        possible = torch.stack([theirs(x) for _ in range(60)])  # lacks one of the two with a chance of 2^-59 an element
        y = ours(x)
        difference = (possible - y).abs().amin(0)
        assert (difference <= 4 * torch.finfo(dtype).eps * y.abs().clamp(min=1)).all()  # PyTorch rounds thrice
        assert y.dtype == dtype


@names
def test_the_mask_is_that_of_the_operation_and_changes(name):
    module = getattr(lh.nn, name)(0.5)
    x = torch.randn(SHAPES[name][-1])
    operation = {"AlphaDropout": "alpha_dropout", "FeatureAlphaDropout": "feature_alpha_dropout"}.get(
        name, name.lower()
    )
    torch.manual_seed(0)
    first = module(x)
    torch.manual_seed(0)
    assert torch.equal(getattr(ops, operation)(x, 0.5, True), first)
    assert len({tuple(module(x).flatten().tolist()) for _ in range(20)}) > 1


@pytest.mark.parametrize("name", ["Dropout", "Dropout2d"])
def test_in_place(name):
    module = getattr(lh.nn, name)(0.5, inplace=True)
    x = torch.randn(2, 3, 4, 5)
    assert module(x) is x
    assert (x == 0).any()


def test_convert_takes_every_dropout():
    model = nn.Sequential(*(getattr(nn, name)(0.25) for name in SHAPES))
    converted = lh.convert(copy.deepcopy(model))
    assert [type(module) for module in converted] == [getattr(lh.nn, name) for name in SHAPES]
    assert [module.p for module in converted] == [0.25] * len(SHAPES)


def test_saved_and_loaded():
    file = io.BytesIO()
    torch.save(lh.nn.Dropout(0.25), file)
    file.seek(0)
    assert torch.load(file, weights_only=False).p == 0.25


def test_a_module_in_evaluation_exports_without_us():
    model = nn.Sequential(nn.Linear(4, 3), lh.nn.Dropout(0.5), lh.nn.Dropout1d(0.5)).eval()
    program = torch.export.export(model, (torch.randn(2, 4),))
    assert "levelhead" not in str(program.graph)


def test_a_module_in_training_exports_without_us():
    program = torch.export.export(lh.nn.Dropout(0.5).train(), (torch.randn(2, 4),))
    assert "levelhead" not in str(program.graph)
    assert "dropout" in str(program.graph)
