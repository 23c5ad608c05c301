"""Dropout: what a mask is, and that every way of running the operator gives the same one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from levelhead import ops
from levelhead.ops import cpu, dropout_operator, library, philox
from levelhead.ops.philox import Noise

STATE = torch.tensor([2**62 + 12345, 7])
TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
compiled = pytest.mark.skipif(not cpu.PRESENT, reason="the compiled kernels are absent")


def philox_of_random123(counter, key, rounds=7):
    """An oracle with Python's own integers: words of 32 bits in, words out."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(rounds):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 % 2**32, (p0 >> 32) ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, "5f6fb709 0d893f64 4f121f81 4f730a48"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "5207ddc2 45165e59 4d8ee751 8c52f662"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "4dfccaba 190a87f0 c47362ba b6b5242a",
        ),
    ],
)
def test_known_answers_of_random123(counter, key, expected):
    """The published test vectors of Philox4x32 with 7 rounds."""
    words = philox.philox(*(tuple(map(torch.tensor, group)) for group in (counter, key)))
    assert " ".join(f"{int(word):08x}" for word in words) == expected
    assert philox_of_random123(counter, key) == tuple(map(int, words))


def test_the_page_of_the_docs_is_true(backend):
    """Its constants, its two checks and its mask, through the oracle, the reference and whatever runs."""
    page = (Path(__file__).parents[2] / "docs" / "dropout.md").read_text()

    def find(pattern):
        (found,) = re.findall(pattern, page)
        return found

    assert tuple(int(v, 16) for v in find(r"M0 = 0x(\w+) and M1 = 0x(\w+)")) == philox.MULTIPLIERS
    assert tuple(int(v, 16) for v in find(r"k0 \+= 0x(\w+), k1 \+= 0x(\w+)")) == philox.WEYL
    words = find(r"seed 0, stream 0, block 0 is ((?:\w{8} ?){4})")
    assert words.split() == [f"{word:08x}" for word in philox_of_random123((0,) * 4, (0, 0), philox.ROUNDS)]
    numbers = find(r"Seed (\d+), stream (\d+), p = ([\d.]+): T = (\d+), the first halves are ((?:\w{4} ?){8}), and")
    seed, stream, threshold = int(numbers[0]), int(numbers[1]), int(numbers[3])
    assert ops.dropouts.rate(float(numbers[2]))[0] == threshold
    oracle = philox_of_random123((0, 0, stream, 0), (seed % 2**32, seed >> 32))
    halves = [half for word in oracle for half in (word % 2**16, word >> 16)]
    assert numbers[4].split() == [f"{half:04x}" for half in halves]
    mask = [int(bit) for bit in find(r"the\s+mask begins ((?:[01] ?){8})").split()]
    assert mask == [int(half >= threshold) for half in halves]
    y = dropout_operator.dropout(torch.ones(100_000), None, Noise(torch.tensor([seed, stream]), threshold, 1.0))
    assert y[:8].tolist() == mask


@pytest.mark.parametrize("state", [(0, 0), (2**62 + 12345, 7), (-1, 2**63 - 1)])
def test_halves_follow_the_definition(state):
    """The words of the docs: which block, which half, in which order."""
    seed, stream = (number % 2**64 for number in state)
    expected = []
    for block in range(3):
        words = philox_of_random123((block, 0, stream % 2**32, stream >> 32), (seed % 2**32, seed >> 32))
        expected += [half for word in words for half in (word % 2**16, word >> 16)]
    assert philox.halves(torch.tensor(state), 21).tolist() == expected[:21]


def test_halves_do_not_depend_on_how_many_are_asked_for(monkeypatch):
    whole = philox.halves(STATE, 5000)
    monkeypatch.setattr(philox, "_BLOCKS_AT_ONCE", 7)
    assert torch.equal(philox.halves(STATE, 4001), whole[:4001])


def both(x, residual, threshold, scale, shift=0.0, fill=0.0, state=STATE):
    noise = Noise(state, threshold, scale, shift, fill)
    return cpu.dropout(x, residual, noise), philox.dropout(x, residual, noise)


@compiled
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("n", [1, 7, 8, 9, 31, 33, 63, 64, 65, 127, 129, 2047, 2048, 2049, 40001])
def test_the_kernel_gives_the_bits_of_the_reference(dtype, n):
    x, residual = torch.randn(2, n).to(dtype)
    for threshold in (1, 6554, 32768, 65535):
        scale = philox.LEVELS / (philox.LEVELS - threshold)
        for extras in ((None,), (residual,), (None, 0.5, -0.25)):
            residual_, *offsets = extras
            ours, reference = both(x, residual_, threshold, scale, *offsets)
            assert torch.equal(ours, reference)
    noise = Noise(STATE, 6554, 1.25)
    assert torch.equal(cpu.factors(noise, x), philox.factors(noise, x)[1].to(dtype))


@compiled
def test_the_kernel_where_it_stores_past_the_caches():
    """From 32 MB on; aligned and not, with a rest."""
    memory = torch.empty(2**23 + 5)
    x = memory[:-1].normal_()
    ours, reference = both(x, None, 20000, 1.5)
    assert torch.equal(ours, reference)
    target = torch.empty(2**23 + 5)[1:]  # not aligned
    cpu._module.dropout(0, x.numel(), STATE, 20000, 1.5, 0.0, 0.0, 2, x, None, target)
    assert torch.equal(target, reference)


def test_the_high_word_of_a_block_counts():
    """Past 2^35 elements the number of a block has a second word."""
    words = philox.philox(*(tuple(map(torch.tensor, group)) for group in ((5, 1, 7, 0), (3, 0))))
    assert tuple(map(int, words)) == philox_of_random123((5, 1, 7, 0), (3, 0))
    assert tuple(map(int, words)) != philox_of_random123((5, 0, 7, 0), (3, 0))


@compiled
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_mask_does_not_depend_on_the_threads(threads):
    x = torch.randn(300_007)
    expected = philox.dropout(x, None, Noise(STATE, 6554, 1.25))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(cpu.dropout(x, None, Noise(STATE, 6554, 1.25)), expected)
    finally:
        torch.set_num_threads(before)


@compiled
@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_the_mask_does_not_depend_on_the_instruction_set(name):
    if name not in cpu._module.instruction_sets():
        pytest.skip(f"this CPU has no {name}")
    program = (
        "import torch; from levelhead import ops; from levelhead.ops import cpu; torch.manual_seed(3)\n"
        "x = torch.arange(1.0, 70001.0); y = ops.dropout(x, 0.3)\n"
        "print(cpu.instruction_set(), int((y != 0).sum()), float((y.double() * x).sum()))"
    )
    environment = {**os.environ, "LEVELHEAD_CPU": name}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    torch.manual_seed(3)
    x = torch.arange(1.0, 70001.0)
    y = ops.dropout(x, 0.3)
    assert result.stdout.split() == [name, str(int((y != 0).sum())), str(float((y.double() * x).sum()))]


@pytest.mark.parametrize("shape", [(8, 16), (300, 501)])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_one_seed_gives_one_result_whatever_the_backend(monkeypatch, shape, dtype):
    """Small and large, with and without autograd, forward and backward."""
    x = torch.randn(shape).to(dtype)
    results = []
    for forced in (None, "reference"):
        monkeypatch.setattr(library, "FORCED", forced)
        for differentiated in (True, False):
            torch.manual_seed(5)
            leaf = x.clone().requires_grad_(differentiated)
            y = ops.dropout(leaf, 0.2)
            results.append(y.detach())
            if differentiated:
                y.backward(x)
                results.append(leaf.grad)
    for result in results[1:]:
        assert torch.equal(result, results[0])


def test_the_seed_governs_and_every_call_draws_anew():
    x = torch.ones(1000)
    torch.manual_seed(1)
    first, second = ops.dropout(x), ops.dropout(x)
    torch.manual_seed(1)
    assert torch.equal(ops.dropout(x), first)
    assert not torch.equal(first, second)
    own = torch.Generator().manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(ops.dropout(x, generator=own), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("small", [True, False])
def test_the_backward_pass_has_the_mask_of_the_forward_pass(backend, small):
    x = torch.randn(50 if small else 100_000, requires_grad=True)
    y = ops.dropout(x, 0.3)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    _, scale = ops.dropouts.rate(0.3)
    assert torch.equal(gradient != 0, y != 0)
    assert set(gradient.tolist()) == {0.0, np.float32(scale)}


@compiled
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("n", [100, 100_000])
def test_the_sum_has_one_result_with_and_without_gradients(n, dtype):
    x, residual = torch.randn(2, n).to(dtype)
    expected = philox.dropout(x, residual, Noise(STATE, 6554, 1.25))
    leaves = [x.clone().requires_grad_(), residual.clone().requires_grad_()]
    y = dropout_operator.dropout(*leaves, Noise(STATE, 6554, 1.25))
    assert torch.equal(y, expected)
    dx, dresidual = torch.autograd.grad(y, leaves, x)
    assert torch.equal(dresidual, x)
    assert torch.equal(dx, philox.dropout(x, None, Noise(STATE, 6554, 1.25)))


def test_nothing_of_the_size_of_the_input_is_saved():
    saved = []
    x = torch.randn(100_000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        ops.dropout(x, 0.3)
    assert saved == [2]


def test_first_and_second_derivatives(backend):
    x, residual = torch.randn(2, 3, 7, dtype=torch.float64).requires_grad_()

    def call(x, residual):
        generator = torch.Generator().manual_seed(9)
        y = ops.dropout_add(ops.alpha_dropout(x, 0.4, True, generator=generator), residual, generator=generator)
        return ops.dropout1d(y[None].square(), 0.5, generator=generator)

    assert torch.autograd.gradcheck(call, (x, residual))
    assert torch.autograd.gradgradcheck(call, (x, residual))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("small", [True, False])
def test_recomputation_gives_the_same_mask(small, reentrant):
    x = torch.randn(50 if small else 100_000, requires_grad=True)

    def block(x):
        return ops.dropout(ops.dropout(x, 0.2).tanh(), 0.4)

    gradients = []
    for run in (block, lambda x: checkpoint(block, x, use_reentrant=reentrant)):
        torch.manual_seed(4)
        y = run(x)
        torch.rand(3)  # what happens between must not matter
        gradients.append(torch.autograd.grad(y.sum(), x)[0] if not reentrant else grad_of(y, x))
    assert torch.equal(*gradients)


def grad_of(y, x):
    x.grad = None
    y.sum().backward()
    return x.grad


def test_a_channels_last_input_keeps_its_format_and_its_order_in_memory():
    x = torch.randn(2, 3, 40, 200)
    last = x.to(memory_format=torch.channels_last).requires_grad_()
    torch.manual_seed(2)
    y = ops.dropout(last, 0.3)
    torch.manual_seed(2)
    flat = ops.dropout(last.detach().permute(0, 2, 3, 1).contiguous(), 0.3)
    assert y.stride() == last.stride()
    assert torch.equal(y.permute(0, 2, 3, 1), flat)
    dy = torch.ones_like(x)  # of the other format
    (gradient,) = torch.autograd.grad(y, last, dy)
    assert torch.equal(gradient != 0, y != 0)
    torch.manual_seed(2)
    strided = torch.empty(2, 3, 40, 400)[..., ::2].copy_(x)
    z = ops.dropout(strided, 0.3)
    torch.manual_seed(2)
    assert torch.equal(z, ops.dropout(x, 0.3))


@pytest.mark.parametrize("n", [100, 100_000])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_fault_is_not_hidden_by_the_mask(backend, n, bad):
    x = torch.full((n,), bad)
    x[::2] = -1.0
    ours, torchs = ops.dropout(x, 0.5), F.dropout(x, 0.5)
    assert torch.isnan(ours[1::2]).any()
    if bad != bad:
        assert torch.isnan(ours[1::2]).all()
        assert torch.equal(torch.isnan(ours), torch.isnan(torchs))
    assert not torch.isnan(ours[::2]).any()


@pytest.mark.parametrize("name", ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"])
def test_edges_are_those_of_pytorch(backend, name):
    ours, torchs = getattr(ops, name), getattr(F, name)
    x = torch.randn({"dropout1d": (2, 3, 4), "dropout3d": (2, 3, 4, 1, 2)}.get(name, (2, 3, 4, 5)))
    assert ours(x, 0.5, False) is x
    assert ours(x, 0.0, True) is x
    assert torch.equal(ours(x, 1.0, True), torchs(x, 1.0, True))
    empty = x[:0]
    assert ours(empty, 0.5, True).shape == empty.shape
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"dropout probability has to be between 0 and 1, but got {p}"):
            ours(x, p)


@pytest.mark.parametrize("name", ["dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout"])
def test_in_place(name):
    call = getattr(ops, name)
    x = torch.randn(4, 5, 6, 7)
    torch.manual_seed(0)
    expected = call(x, 0.5, True)
    torch.manual_seed(0)
    target = x.clone()
    assert call(target, 0.5, True, True) is target
    assert torch.equal(target, expected)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        call(x.clone().requires_grad_(), 0.5, True, True)
    leaf = x.clone().requires_grad_()
    torch.manual_seed(0)
    call(leaf * 1, 0.5, True, True).sum().backward()
    assert leaf.grad.unique().numel() == 2


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_channels_fall_whole(backend, memory_format, dtype):
    x = torch.rand(40, 50, 3, 2).add(1).to(dtype).to(memory_format=memory_format)
    y = ops.dropout2d(x, 0.3)
    assert y.dtype == dtype
    assert y.stride() == x.stride()
    kept = (y != 0).flatten(2)
    assert torch.equal(kept.all(-1), kept.any(-1))
    _, scale = ops.dropouts.rate(0.3)
    exact = x.double() * scale * kept[..., :1, None]
    torch.testing.assert_close(y.double(), exact, rtol=torch.finfo(dtype).eps, atol=0)  # one rounding, scale's aside
    assert 0.25 < 1 - kept[..., 0].double().mean() < 0.35  # 4.9 standard deviations of 2000 channels


def test_alpha_dropout_keeps_mean_and_variance():
    """10^6 elements: the mean has a standard deviation of 0.001, the variance one of about 0.0015."""
    x = torch.randn(1_000_000)
    for name, shaped in (("alpha_dropout", x), ("feature_alpha_dropout", x.view(1000, 1000, 1))):
        y = getattr(ops, name)(shaped, 0.3, True)
        assert abs(y.mean()) < 0.005
        assert abs(y.var() - 1) < 0.0075
    dropped = ops.alpha_dropout(torch.zeros(1000), 0.3, True).unique()
    assert dropped.numel() == 2
    assert dropped[0] < 0 < dropped[1]


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_add_norm_is_the_composition(backend, norm, training):
    x, residual = torch.randn(2, 70, 1000).requires_grad_().unbind()
    weight = torch.rand(1000, requires_grad=True)
    results = []
    for fused in (True, False):
        torch.manual_seed(6)
        if fused:
            y, total = getattr(ops, f"dropout_add_{norm}_norm")(x, residual, (1000,), weight, p=0.2, training=training)
        else:
            total = ops.dropout(x, 0.2, training) + residual
            y = getattr(ops, f"{norm}_norm")(total, (1000,), weight)
        gradients = torch.autograd.grad((y * y).sum() + total.sin().sum(), (x, residual, weight))
        results.append((y, total, *gradients))
    torch.testing.assert_close(*results)
    with pytest.raises(ValueError, match=r"must have the shape of the input, \(70, 1000\), but got \(1000,\)"):
        getattr(ops, f"dropout_add_{norm}_norm")(x, residual[0], (1000,))


@pytest.mark.parametrize("n", [100, 100_000])
def test_a_sum_of_two_types_is_that_of_pytorch(backend, n):
    x, residual = torch.randn(n).bfloat16(), torch.randn(n)
    results = []
    for call in (lambda: ops.dropout_add(x, residual, 0.2), lambda: ops.dropout(x, 0.2) + residual):
        torch.manual_seed(6)
        results.append(call())
    assert results[0].dtype == torch.float32
    assert torch.equal(*results)


def test_opcheck():
    x, residual = (torch.randn(5, 7, requires_grad=True) for _ in range(2))
    for extras in ((None, STATE, 30000, 1.2, 0.0, 0.0), (residual, STATE, 30000, 1.2, 0.0, 0.0)):
        torch.library.opcheck(torch.ops.levelhead.dropout.default, (x, *extras))
    torch.library.opcheck(torch.ops.levelhead.dropout.default, (x, None, STATE, 30000, 1.2, 0.1, -0.2))


def test_vmap_and_func_grad():
    x = torch.randn(6, 50)
    torch.manual_seed(0)
    expected = ops.dropout(x[0], 0.5)
    torch.manual_seed(0)
    gradient = torch.func.grad(lambda x: ops.dropout(x, 0.5).sum())(x[0])
    assert torch.equal(gradient != 0, expected != 0)
    same = torch.vmap(lambda x: ops.dropout(x, 0.5), randomness="same")(x)
    different = torch.vmap(lambda x: ops.dropout(x, 0.5), randomness="different")(x)
    assert torch.equal((same == 0).all(0), (same == 0).any(0))
    assert len({tuple(row) for row in (different == 0).tolist()}) == 6
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(lambda x: ops.dropout(x, 0.5))(x)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 100_000])
def test_compile_without_a_graph_break(n):
    def call(x, residual):
        return ops.dropout(x, 0.3) + ops.dropout_add(x, residual, 0.5).tanh()

    x, residual = (torch.randn(n, requires_grad=True) for _ in range(2))
    torch._dynamo.reset()
    results = []
    for function in (call, torch.compile(call, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(8)
        y = function(x, residual)
        results.append((y, *torch.autograd.grad(y.sum(), (x, residual))))
    torch.testing.assert_close(*results)
    assert not torch.equal(function(x, residual), results[1][0])  # every call draws anew


def test_a_forced_kernel_that_cannot_serve_is_refused(monkeypatch):
    monkeypatch.setattr(library, "FORCED", "cpu")
    x = torch.empty(4, device="meta")
    with pytest.raises(
        RuntimeError, match=r"LEVELHEAD_BACKEND=cpu cannot serve the dropout of a torch.float32 on meta"
    ):
        dropout_operator.dropout(x, None, Noise(STATE, 1, 1.0))


def test_a_generator_is_not_ignored_where_pytorch_drops():
    with pytest.raises(NotImplementedError, match=r"dropout of torch.complex64 takes no generator"):
        ops.dropout(torch.randn(3, dtype=torch.complex64), generator=torch.Generator())


def test_rates_are_rounded_to_what_16_bits_hold():
    assert ops.dropouts.rate(0.5) == (32768, 2.0)
    assert ops.dropouts.rate(0.1) == (6554, 65536 / 58982)
    assert ops.dropouts.rate(1e-9)[0] == 1
    assert ops.dropouts.rate(1 - 1e-9) == (65535, 65536.0)
