"""Masks, lengths and nested tensors through the modules."""

from __future__ import annotations

import pytest
import torch

import levelhead as lh

N, C, L = 3, 4, 5
LENGTHS = [5, 1, 3]
FIRST = {  # channels first: sequences along the last axis
    "batch": lh.nn.BatchNorm1d(C),
    "instance": lh.nn.InstanceNorm1d(C, affine=True, track_running_stats=True),
    "group": lh.nn.GroupNorm(2, C),
}
LAST = {"layer": lh.nn.LayerNorm(C), "rms": lh.nn.RMSNorm(C)}  # (N, L, C)


def sequences(module):
    """An input with NaN behind the ends, and the mask."""
    last = module in LAST.values()
    mask = torch.arange(L) < torch.tensor(LENGTHS)[:, None]
    mask = mask[:, :, None] if last else mask[:, None]
    return torch.randn(N, *((L, C) if last else (C, L))).where(mask, torch.nan), mask


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("module", [*FIRST.values(), *LAST.values()], ids=[*FIRST, *LAST])
def test_lengths_are_that_mask(module, training):
    x, mask = sequences(module)
    module.train(training)
    y = module(x, lengths=LENGTHS)
    torch.testing.assert_close(module(x, lengths=torch.tensor(LENGTHS)), y)
    torch.testing.assert_close(module(x, mask=mask), y)
    assert bool((y == 0).masked_select(~mask).all())
    residual = torch.randn(x.shape).where(mask, torch.nan)
    expected = (y + residual).where(mask, 0).relu()
    torch.testing.assert_close(module(x, residual, activation="relu", lengths=LENGTHS), expected)


def test_running_estimates_are_those_of_the_unpadded_batch():
    module, theirs = lh.nn.BatchNorm1d(C), torch.nn.BatchNorm1d(C)
    x, mask = sequences(module)
    for _ in range(2):
        module(x, lengths=LENGTHS)
        theirs(x.transpose(1, 2)[mask[:, 0]])
    torch.testing.assert_close(module.state_dict(), theirs.state_dict())


def test_one_example_of_instance_norm():
    module = lh.nn.InstanceNorm1d(C)
    x = torch.randn(C, L)
    y = module(x, mask=torch.arange(L) < 3)
    torch.testing.assert_close(y[:, :3], module(x[:, :3]))
    assert not y[:, 3:].any()


class TestNested:
    @pytest.mark.parametrize("module", LAST.values(), ids=LAST)
    @pytest.mark.parametrize("rows", [9, 2**17], ids=["small", "large"])
    def test_as_on_the_rows(self, module, rows):
        values = torch.randn(rows, C, requires_grad=True)
        offsets = torch.tensor([0, 5, 6, rows])
        x = torch.nested.nested_tensor_from_jagged(values, offsets)
        for extras in ({}, {"activation": "relu"}):
            y, expected = module(x, **extras), module(values, **extras)
            assert y.shape == x.shape
            torch.testing.assert_close(y.values(), expected)
            found = torch.autograd.grad(y.values().pow(3).sum(), values)
            torch.testing.assert_close(found, torch.autograd.grad(expected.pow(3).sum(), values))
        torch.testing.assert_close(module(x, x).values(), module(values, values))

    def refuse(self, match, x, **extras):
        with pytest.raises(ValueError, match=match):
            lh.nn.LayerNorm(C)(x, **{"activation": "relu", **extras})

    def test_bad_input(self):
        values = torch.randn(6, C)
        x = torch.nested.nested_tensor_from_jagged(values, torch.tensor([0, 2, 6]))
        other = torch.nested.nested_tensor_from_jagged(values, torch.tensor([0, 3, 6]))
        self.refuse("a nested tensor has no padding", x, mask=torch.ones(1) > 0)
        self.refuse("a nested tensor knows its lengths", x, lengths=[2, 4])
        self.refuse("the residual must be nested as the input is", x, residual=values)
        self.refuse("the residual must be nested as the input is", x, residual=other)
        with pytest.raises(ValueError, match=r"normalized_shape=\[6, 4\] reaches dimension 1"):
            lh.ops.layer_norm(x, (6, C), activation="relu")


@pytest.mark.parametrize(
    ("lengths", "error", "match"),
    [
        ([5, 1], ValueError, r"shape \(3,\), one an example .* got \(2,\)"),
        ([5, 1, 6], ValueError, "from 0 to 5, the size of axis 2 of the input, got 1 to 6"),
        ([5, 1, -1], ValueError, "got -1 to 5"),
        ([5.0, 1.0, 3.0], TypeError, "must be integers, one an example, got torch.float32"),
    ],
)
def test_bad_lengths(lengths, error, match):
    with pytest.raises(error, match=match):
        lh.nn.BatchNorm1d(C)(torch.randn(N, C, L), lengths=lengths)


def test_lengths_want_a_sequence_and_no_mask():
    with pytest.raises(ValueError, match=r"the input \(3, 4\) has no axis for them"):
        lh.nn.BatchNorm1d(C)(torch.randn(N, C), lengths=LENGTHS)
    with pytest.raises(ValueError, match="give one of them"):
        lh.nn.BatchNorm1d(C)(torch.randn(N, C, L), lengths=LENGTHS, mask=torch.ones(L) > 0)
