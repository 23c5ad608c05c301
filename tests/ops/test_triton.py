"""The GPU kernels beyond the contract: sets in many chunks, dropout's bits, what is refused.

They run on a GPU, and without one with ``TRITON_INTERPRET=1`` in Triton's interpreter.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import torch

from levelhead import ops
from levelhead.ops import dropouts, library, philox, triton
from levelhead.ops.philox import Noise
from levelhead.ops.spec import Norm

if triton.absent():
    pytest.skip(triton.absent(), allow_module_level=True)

import triton_kernels

from levelhead.ops.triton import channels, launch, norms, rows
from levelhead.ops.triton import dropout as triton_dropout

DEVICE = "cpu" if triton.interpreted() else "cuda"
STATE = torch.tensor([2**62 + 12345, 2**40 + 7])
HALF_UNITS = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    monkeypatch.setattr(library, "FORCED", "triton")


@pytest.fixture
def started(monkeypatch):
    """The names of the kernels that were started."""
    names = []

    def start(kernel, *arguments, **options):
        names.append(kernel.fn.__name__)
        launch.start(kernel, *arguments, **options)

    monkeypatch.setattr(norms, "start", start)
    return names


@pytest.fixture
def many_chunks(monkeypatch):
    """Tiles so small that small inputs take all the ways of large ones."""
    of = launch.Channels.of

    def small(outer, channels, positions, last):
        tiles = of(outer, channels, positions, last)
        block_c, block_k = min(tiles.block_c, 4), min(tiles.block_k, 8)
        steps = 2
        return dataclasses.replace(
            tiles, block_c=block_c, block_k=block_k, steps=steps, chunks=-(-positions // (steps * block_k))
        )

    monkeypatch.setattr(launch.Channels, "of", small)
    for name in ("WHOLE_FORWARD", "WHOLE_BACKWARD"):
        monkeypatch.setattr(launch, name, 16)


NORMS = {
    "batch": lambda x, w, b, **extras: ops.batch_norm(x, None, None, w, b, True, **extras),
    "instance": lambda x, w, b, **extras: ops.instance_norm(x, None, None, w, b, **extras),
    "group": lambda x, w, b, **extras: ops.group_norm(x, 2, w, b, **extras),
    "layer": lambda x, w, b, **extras: ops.layer_norm(x, x.shape[-1:], w, b, **extras),
    "rms": lambda x, w, b, **extras: ops.rms_norm(x, x.shape[-1:], w, **extras),
}
norm_kinds = pytest.mark.parametrize("kind", NORMS)
layouts = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])


def gradients(kind, layout, shape, dtype, activation=None, residual=False, offset=0.0):
    """The result and all gradients."""
    generator = torch.Generator().manual_seed(1)

    def draw(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(DEVICE)

    x = (draw(*shape) + offset).contiguous(memory_format=layout).requires_grad_()
    size = shape[-1] if kind in ("layer", "rms") else shape[1]
    w, b = (draw(size).requires_grad_() for _ in range(2))
    r = draw(*shape).requires_grad_() if residual else None
    dy = draw(*shape)
    y = NORMS[kind](x, w, b, activation=activation, residual=r)
    inputs = [t for t in (x, w, None if kind == "rms" else b, r) if t is not None]
    return [t.detach().cpu() for t in (y, *torch.autograd.grad(y, inputs, dy))]


@norm_kinds
@pytest.mark.parametrize(
    ("layout", "activation", "residual"),
    [
        (torch.contiguous_format, None, False),
        (torch.contiguous_format, "gelu", True),
        (torch.channels_last, "tanh", True),
    ],
)
def test_sets_in_many_chunks(kind, layout, activation, residual, many_chunks, started, monkeypatch):
    """In float64, where a chunk that is lost or merged with a wrong count shows in the first digits."""
    shape = (3, 1, 1, 26) if kind in ("layer", "rms") else (2, 4, 1, 26)
    arguments = (kind, layout, shape, torch.float64, activation, residual, 1e3)
    ours = gradients(*arguments)
    assert {"moments", "merge", "apply"} <= set(started)
    assert "sums" in started
    monkeypatch.setattr(library, "FORCED", "reference")
    for a, b in zip(ours, gradients(*arguments), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@norm_kinds
@layouts
@pytest.mark.parametrize("dtype", HALF_UNITS, ids=str)
def test_gradients_of_every_type(kind, layout, dtype, monkeypatch):
    arguments = (kind, layout, (2, 4, 3, 16), dtype)
    ours = gradients(*arguments)
    monkeypatch.setattr(library, "FORCED", "reference")
    for a, b in zip(ours, gradients(*arguments), strict=True):
        torch.testing.assert_close(a, b, rtol=2 * HALF_UNITS[dtype], atol=1e-5)  # calculated in float32, rounded once


@pytest.mark.parametrize("kind", ["batch", "group", "layer"])
@layouts
def test_numbers_of_64_bits(kind, layout, many_chunks, monkeypatch):
    """What only tensors of 2^31 elements take: places in memory in 64 bits."""
    arguments = (kind, layout, (2, 1, 1, 20) if kind == "layer" else (2, 4, 1, 20), torch.float32)
    ours = gradients(*arguments)
    monkeypatch.setattr(norms.View, "large", True)
    for a, b in zip(ours, gradients(*arguments), strict=True):
        assert torch.equal(a, b)


@layouts
def test_chunks_with_unlike_means_are_merged_exactly(layout, many_chunks):
    """Each chunk 1e5 standard deviations from the next; the merge in float64 leaves an error of float32's rounding."""
    x = torch.randn(2, 4, 6, 10)
    x[0] += 1e5
    x[1, :, :3] -= 3e4
    y = ops.batch_norm(x.contiguous(memory_format=layout).to(DEVICE), None, None, training=True).cpu()
    oracle = oracles.normalize(x.double().numpy(), oracles.grouping("batch", tuple(x.shape)), 1e-5)
    assert np.abs(y.double().numpy() - oracle).max() / np.abs(oracle).max() < 1e-6


@norm_kinds
@layouts
def test_values_near_1e30_in_many_chunks(kind, layout, many_chunks):
    x = (torch.randn(2, 2, 1, 20) * 1e30).contiguous(memory_format=layout)
    y = NORMS[kind](x.to(DEVICE), None, None).cpu()
    oracle = oracles.normalize(x.double().numpy(), oracles.grouping(kind, tuple(x.shape), 2), 1e-5, kind != "rms")
    np.testing.assert_allclose(y.double().numpy(), oracle, rtol=1e-6, atol=2e-6)


def test_one_fault_does_not_hide_an_overflow_beside_it():
    """Rows of one tile: NaN in the first, squares beyond float32 in the second."""
    x = torch.randn(4, 40)
    x[0, 3] = float("nan")
    x[1] *= 1e30
    y = ops.layer_norm(x.to(DEVICE), (40,)).cpu()
    oracle = oracles.normalize(x.double().numpy(), oracles.grouping("layer", (4, 40)), 1e-5)
    np.testing.assert_allclose(y[1:].double().numpy(), oracle[1:], rtol=1e-6, atol=2e-6)
    assert torch.isnan(y[0]).all()


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_the_same_bits_from_run_to_run(kind):
    shape = (2, 8, 5, 16) if triton.interpreted() else (64, 64, 56, 56)
    once, again = (gradients(kind, torch.channels_last, shape, torch.float32) for _ in range(2))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("training", [True, False])
def test_running_statistics_and_evaluation(training, many_chunks):
    """In evaluation the statistics are constants to the gradient."""
    x, mean, var, weight = torch.randn(4, 6, 20), torch.randn(6), torch.rand(6) + 0.5, torch.rand(6)
    dy = torch.randn_like(x)
    found = []
    for batch_norm, device in ((ops.batch_norm, DEVICE), (torch.nn.functional.batch_norm, "cpu")):
        tensors = [t.clone().to(device) for t in (x, mean, var, weight)]
        leaves = [tensors[0].requires_grad_(), tensors[3].requires_grad_()]
        y = batch_norm(*tensors, training=training)
        found.append([t.detach().cpu() for t in (y, *torch.autograd.grad(y, leaves, dy.to(device)), *tensors[1:3])])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


@layouts
@pytest.mark.parametrize(("activation", "training"), [(None, False), ("leaky_relu", True), ("elu", True)])
def test_in_place(layout, activation, training, many_chunks):
    """Where the weight is small against the bias the input is kept; else the backward pass has the output alone."""
    x, dy = torch.randn(2, 2, 4, 1, 9, dtype=torch.float64).to(DEVICE)
    x = x.contiguous(memory_format=layout)
    weight = torch.tensor([1.0, -0.5, 0.0, 0.01], dtype=torch.float64, device=DEVICE)
    estimates = weight + 1, weight + 2
    found = []
    for memory in ("inplace", None):
        leaves = [t.clone().requires_grad_() for t in (x, weight, weight.roll(1))]
        y = ops.batch_norm(
            leaves[0] * 1, *(t.clone() for t in estimates), *leaves[1:], training, activation=activation, memory=memory
        )
        found.append((y.detach(), *torch.autograd.grad(y, leaves, dy)))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_a_parameter_that_is_a_view():
    x, wide = torch.randn(3, 5, 8), torch.randn(8, 2)
    y = ops.layer_norm(x.to(DEVICE), (8,), wide.to(DEVICE)[:, 1])
    torch.testing.assert_close(y.cpu(), torch.nn.functional.layer_norm(x, (8,), wide[:, 1]))


@pytest.mark.parametrize("dtype", HALF_UNITS, ids=str)
@pytest.mark.parametrize("n", [1, 7, 8, 9, 65, 4097, 9001])
def test_dropout_gives_the_bits_of_the_reference(dtype, n):
    x, residual = torch.randn(2, n).to(dtype)
    for threshold in (1, 6554, 65535):
        scale = philox.LEVELS / (philox.LEVELS - threshold)
        for beside, *offsets in ((None, 0.0, 0.0), (residual, 0.0, 0.0), (None, 0.5, -0.25)):
            place = None if beside is None else beside.to(DEVICE)
            noise = Noise(STATE, threshold, scale, *offsets)
            ours = triton_dropout.dropout(x.to(DEVICE), place, noise).cpu()
            exact = philox.dropout(x, beside, noise)
            if triton.interpreted() or (beside is None and not any(offsets)):
                assert torch.equal(ours, exact)
            else:  # a GPU may round a product and its sum once
                torch.testing.assert_close(ours, exact, rtol=2 * HALF_UNITS[dtype], atol=1e-6)


def test_the_high_word_of_a_block_counts():
    """Past 2^35 elements the number of a block has a second word; no tensor here is that large."""
    result = torch.empty(4, dtype=torch.int64, device=DEVICE)
    launch.start(triton_kernels.words_of, 1, result, STATE.to(DEVICE), 2**32 + 5, result)
    counter = (5, 1, *(int(STATE[1]) >> shift & 0xFFFFFFFF for shift in (0, 32)))
    key = (int(STATE[0]) >> shift & 0xFFFFFFFF for shift in (0, 32))
    exact = philox.philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert result.tolist() == [int(word) for word in exact]


def test_dropout_drops_alike_forward_and_backward():
    x = torch.randn(300, device=DEVICE, requires_grad=True)
    y = ops.dropout(x, 0.4)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx != 0, y != 0)
    assert 0.3 < float((y == 0).double().mean()) < 0.5


def test_dropout_of_float64_is_refused():
    with pytest.raises(RuntimeError, match="LEVELHEAD_BACKEND=triton cannot serve the dropout of"):
        ops.dropout(torch.randn(100, device=DEVICE, dtype=torch.float64))


def composed(x, residual, weight, bias, center):
    """Dropout, sum and norm one by one."""
    total = dropouts.summed(x, residual, STATE, 0.3)
    return dropouts._norm(total, total.shape[-1:], weight, bias if center else None, 1e-5, center), total


def fused(x, residual, weight, bias, center):
    return dropouts.summed_and_normalized(
        x, residual, STATE, 0.3, x.shape[-1:], weight, bias if center else None, 1e-5, center
    )


@pytest.mark.parametrize("center", [True, False], ids=["layer", "rms"])
@pytest.mark.parametrize("length", [8, 136, 1032, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_sum_and_norm_in_one(center, length, dtype, started):
    """A row of 33 does not begin with a block of the generator, so the parts do it."""
    rows_ = 5 if length > 100 else 30
    generator = torch.Generator().manual_seed(3)
    x, residual, dy, dtotal = (torch.randn(rows_, length, generator=generator).to(dtype).to(DEVICE) for _ in range(4))
    weight, bias = (torch.rand(length, generator=generator).to(dtype).to(DEVICE) for _ in range(2))
    results = []
    for call in (fused, composed):
        leaves = [t.clone().requires_grad_() for t in (x, residual, weight, bias)]
        y, total = call(*leaves, center)
        used = leaves if center else leaves[:3]
        results.append((total, y, *torch.autograd.grad((y, total), used, (dy, dtotal))))
    assert ("forward" in started) == (length <= launch.WHOLE_FORWARD)
    (total, *ours), (expected, *theirs) = results
    assert torch.equal(total, expected)
    if triton.interpreted():  # the norm is that of the sum as it is stored
        assert torch.equal(ours[0], theirs[0])
    for a, b in zip(ours, theirs, strict=True):  # the parts round the gradient of the sum once more
        torch.testing.assert_close(a, b, rtol=4 * HALF_UNITS[dtype], atol=8 * HALF_UNITS[dtype])


def test_only_one_of_the_two_results_is_used():
    x, residual, dy = (torch.randn(6, 40, device=DEVICE) for _ in range(3))
    leaves = [x.requires_grad_(), residual.requires_grad_()]
    for which in (0, 1):
        ours, theirs = (
            torch.autograd.grad(call(*leaves, None, None, True)[which], leaves, dy) for call in (fused, composed)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@layouts
def test_mean_squares_over_other_axes_than_the_last(layout, many_chunks, monkeypatch):
    """No normalizer of PyTorch's does that, but the operator does."""
    x = torch.randn(2, 4, 3, 10, dtype=torch.float64).contiguous(memory_format=layout).to(DEVICE).requires_grad_()
    weight = torch.rand(4, dtype=torch.float64, device=DEVICE, requires_grad=True)
    norm = Norm("batch", 0, 1e-5, "tanh", center=False)
    found = []
    for backend in ("triton", "reference"):
        monkeypatch.setattr(library, "FORCED", backend)
        y, _ = library.normalize(x, weight, None, None, norm)
        found.append((y.detach(), *torch.autograd.grad(y.cos().sum(), (x, weight))))
    torch.testing.assert_close(*found)


def test_what_cannot_be_served_is_refused():
    x = torch.randn(3, 4, 5, device=DEVICE)
    with pytest.raises(
        RuntimeError, match=r"LEVELHEAD_BACKEND=triton cannot serve a torch.float8_e5m2 of shape \(3, 4"
    ):
        ops.layer_norm(x.to(torch.float8_e5m2), (5,))
    with pytest.raises(RuntimeError, match="LEVELHEAD_BACKEND=triton cannot serve a mask"):
        ops.layer_norm(x, (5,), mask=torch.ones_like(x, dtype=torch.bool))


@pytest.mark.skipif(not triton.interpreted(), reason="a GPU's kernels are seen through, see test_triton_compiled")
def test_opcheck():
    x = torch.randn(4, 3, 5, requires_grad=True)
    weight, norm = torch.randn(3, requires_grad=True), Norm("batch", 0, 1e-5, "relu")
    torch.library.opcheck(torch.ops.levelhead.normalize.default, (x, weight, weight, x, *norm))
    given = norm._replace(over="given")
    torch.library.opcheck(torch.ops.levelhead.standardize.default, (x, torch.rand(2, 3), weight, None, None, *given))
    torch.library.opcheck(torch.ops.levelhead.dropout.default, (x, None, STATE, 6554, 1.25, 0.0, 0.0))


def test_the_families_hold_what_they_say():
    """Whole sets go to rows, the others to channels; every position is in one chunk and one tile."""
    assert rows.forward is not channels.apply
    for outer, channels_, positions, last in (
        (1, 64, 64 * 56 * 56, False),
        (1, 2048, 128 * 49, True),
        (7, 1, 1, False),
    ):
        tiles = launch.Channels.of(outer, channels_, positions, last)
        assert (
            (tiles.chunks - 1) * tiles.steps * tiles.block_k < positions <= tiles.chunks * tiles.steps * tiles.block_k
        )
        assert tiles.block_c * tiles.block_k <= 4096
    assert launch.unit(48) == 16
    assert launch.unit(196) == 4
    assert launch.unit(49) == 1
