"""``convert`` makes one step of dropout, sum and norm, and nothing else changes."""

from __future__ import annotations

import copy
import pickle
import types

import processes
import pytest
import torch
from nn.residual_models import MODELS, WIDTH, Own, PostNorm, PreNorm, Statements, encoder
from torch import nn

import levelhead as lh
from levelhead import kinds
from levelhead.nn import fusion
from levelhead.ops import dropouts

names = pytest.mark.parametrize("name", MODELS)


def one_by_one(model):
    """Every layer in the class of its namesake, and nothing fused: the same masks from the same seed."""
    model = copy.deepcopy(model)
    for module in model.modules():
        kind = kinds.of(module)
        module.__class__ = kind.ours if kind is not None and kind.ours else type(module)
    return model


@pytest.fixture
def steps(monkeypatch):
    """What the models call: "norm" for dropout, sum and norm, "sum" for dropout and sum, "dropout" for one put off."""
    calls = []
    kinds = {"summed_and_normalized": "norm", "summed": "sum", "multiplied": "dropout"}

    def spy(name):
        original = getattr(dropouts, name)

        def call(*args, **kwargs):
            calls.append(kinds[name])
            return original(*args, **kwargs)

        return call

    others = {name: getattr(dropouts, name) for name in ("draw", "pytorchs")}
    monkeypatch.setattr(fusion, "dropouts", types.SimpleNamespace(**others, **{name: spy(name) for name in kinds}))
    return calls


def inputs(count, rows=5):
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(2, rows, WIDTH, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(count)
    ]


def step(model, xs):
    """The output, all gradients, and a number that tells whether as much chance was used."""
    for tensor in (*xs, *model.parameters()):
        tensor.grad = None
    torch.manual_seed(7)
    y = model(*xs)
    after = torch.rand(1)
    y.square().sum().backward()
    return y, after, *(tensor.grad for tensor in (*xs, *model.parameters()))


# float64: what is fused sums in another order than what is not.
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


@names
def test_results_and_gradients_stay(backend, name, steps):
    make, count, expected = MODELS[name]
    model = make().double()
    converted, plain = lh.convert(copy.deepcopy(model)), one_by_one(model)
    ours = step(converted, inputs(count))
    assert (steps.count("norm"), steps.count("sum")) == expected
    torch.testing.assert_close(ours, step(plain, inputs(count)), **CLOSE)
    steps.clear()
    x = inputs(count)
    torch.testing.assert_close(converted.eval()(*x), model.eval()(*x), **CLOSE)
    assert "norm" not in steps
    assert "sum" not in steps
    assert list(converted.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("make", [PostNorm, PreNorm, Own])
def test_results_and_gradients_stay_where_the_kernels_serve(make, steps):
    model = make().double()
    ours = step(lh.convert(copy.deepcopy(model)), inputs(1, 3000))
    assert "norm" in steps
    torch.testing.assert_close(ours, step(one_by_one(model), inputs(1, 3000)), **CLOSE)


@names
def test_copies_and_pickles(name, steps):
    make, count, expected = MODELS[name]
    model = lh.convert(make().double())
    xs = inputs(count)
    original = step(model, xs)
    for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        steps.clear()
        torch.testing.assert_close(step(clone, xs), original)
        assert (steps.count("norm"), steps.count("sum")) == expected


def test_explain_says_it():
    assert lh.nn.explain(nn.Sequential(PreNorm(), Statements(), Own())).fused == {
        "0": "self.dropout1 + add + self.norm2, self.feed + add",
        "1": "self.dropout + add + self.LayerNorm, self.dropout + add + self.final",
        "2": "self._block + add + self.norm1, self._block + add + self.norm2",
    }
    model = encoder()
    text = lh.nn.explain(model)
    assert text == lh.nn.explain(lh.convert(model))
    assert "self._ff_block + add + self.norm2" in text.fused[""]


@pytest.mark.parametrize(
    ("make", "who"), [(PreNorm, "dropout1"), (PreNorm, "norm2"), (PreNorm, "feed"), (PostNorm, "norm1")]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_who_listens_with_a_hook_hears_what_was(make, who, when):
    model = make().double()
    heard = {"plain": [], "fused": []}
    results = []
    for key, prepare in (("plain", one_by_one), ("fused", lambda m: lh.convert(copy.deepcopy(m)))):
        listened = copy.deepcopy(model) if when == "before" else prepare(model)
        handle = getattr(listened, who).register_forward_hook(
            lambda _, given, output, key=key: heard[key].append((given[0].clone(), output.clone()))
        )
        listened = prepare(listened) if when == "before" else listened
        results.append(step(listened, inputs(1)))
        handle.remove()
    assert len(heard["plain"]) == 1
    torch.testing.assert_close(heard["fused"], heard["plain"], **CLOSE)
    torch.testing.assert_close(*results, **CLOSE)


def test_modules_and_methods_can_be_exchanged_afterwards(steps):
    model = Own().double()
    converted, plain = lh.convert(copy.deepcopy(model)), one_by_one(model)
    for m in (converted, plain):
        m._block = lambda x, scale=1.0: x.tanh() * scale
    x = inputs(1)
    torch.testing.assert_close(converted(*x), plain(*x))
    assert steps == []
    model = PostNorm().double()
    converted, plain = lh.convert(copy.deepcopy(model)), one_by_one(model)
    for m in (converted, plain):
        m.norm1, m.dropout = nn.Identity(), nn.Dropout(0.9)
    torch.manual_seed(0)
    ours = converted(*x)
    torch.manual_seed(0)
    torch.testing.assert_close(ours, plain(*x))
    for m in (converted, plain):
        m.norm1, m.dropout = lh.nn.LayerNorm(WIDTH, activation="relu").double(), lh.nn.Dropout(0.5)
    torch.testing.assert_close(step(converted, x), step(plain, x), **CLOSE)


class Refusals(nn.Module):
    """Where a dropout or a norm must not move, or where its sum is not of two like tensors."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.other = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.dropout, self.inplace = nn.Dropout(0.5), nn.Dropout(0.5, inplace=True)
        nn.init.constant_(self.other.weight, 3.0)

    def changes_the_input_in_the_sum(self, x):
        y = self.linear(x)
        return self.norm(self.dropout(y) + y.mul_(3))

    def changes_the_input_before_the_sum(self, x):
        y = x * 1
        h = self.dropout(y)
        return y.mul_(3) * (h + x)

    def changes_a_module_s_result_before_the_sum(self, x):
        y = self.linear(x)
        h = self.dropout(y)
        return y.mul_(3) * (h + x)

    def reads_it_twice(self, x):
        h = self.dropout(self.linear(x))
        y = h + x
        return self.norm(y) * h

    def reads_it_in_the_next_round(self, x):
        h = x
        for _ in range(2):
            x = x + h
            h = self.dropout(self.linear(x))
            y = h + x
            x = y * 2
        return x

    def adds_two(self, x):
        h = self.dropout(self.linear(x))
        return self.norm(h + self.dropout(self.linear(x)))

    def adds_two_in_statements(self, x):
        h = self.dropout(self.linear(x))
        h = self.dropout(h + x)
        return self.norm(h + x)

    def does_something_else_with_it(self, x):
        h = self.dropout(self.linear(x))
        return (h + x) @ self.linear.weight

    def does_something_else_with_it_and_adds(self, x):
        h = self.dropout(self.linear(x))
        return (x + self.dropout(x)) * h

    def changes_the_sum_before_the_norm(self, x):
        s = x + self.dropout(self.linear(x))
        return s.mul_(2) + self.norm(s)

    def changes_the_sum_in_between(self, x):
        s = x + self.dropout(self.linear(x))
        s = s.mul_(2)
        return self.norm(s)

    def takes_the_norm_or_not(self, x):
        s = x + self.dropout(self.linear(x))
        return self.norm(s) if x.sum() > 1e9 else s

    def takes_two_norms(self, x):
        s = x + self.dropout(self.linear(x))
        return self.norm(s) * self.other(s)

    def takes_the_norm_of_another(self, x):
        s = x + self.dropout(self.linear(x))
        s, t = x, self.norm(s)
        return s + t

    def exchanges_the_norm_in_between(self, x):
        s = x + self.dropout(self.linear(x))
        return self.exchanged(x) + self.norm(s)

    def exchanged(self, x):
        self.norm, self.other = self.other, self.norm
        return x

    def broadcasts(self, x):
        return self.norm(x[:1, :1] + self.dropout(self.linear(x)))

    def adds_a_number(self, x):
        return self.norm(self.dropout(self.linear(x)) + 1)

    def adds_another_type(self, x):
        return self.norm(self.dropout(self.linear(x)) + x.float())

    def is_in_place(self, x):
        return self.norm(self.inplace(self.linear(x)) + x)

    def may_fail(self, x):
        try:
            h = self.linear(x)
            h = self.dropout(h)
            h = h + x[..., :5]
        except RuntimeError:
            h = h * 2
        return self.norm(h)

    def draws_in_between(self, x):
        return self.norm(self.dropout(self.linear(x)) + self.linear(x + torch.rand_like(x)))

    def is_seen_by_a_lambda(self, x):
        h = self.dropout(self.linear(x))
        f = lambda: h + x  # noqa: E731
        y = f()
        return self.norm(y + h)

    def is_shadowed_by_a_comprehension(self, x):
        h = self.dropout(self.linear(x))
        h = h + x
        return self.norm(h) + sum(h.mean() for h in (x, x * 2))

    def forward(self, x, method):
        return getattr(self, method)(x)


CASES = [
    name
    for name, f in vars(Refusals).items()
    if callable(f) and name[0] != "_" and name not in {"forward", "exchanged"}
]


@pytest.mark.parametrize("method", CASES)
def test_what_must_stay_in_its_place_does(method):
    model = Refusals().double()
    converted, plain = lh.convert(copy.deepcopy(model)), one_by_one(model)
    x = inputs(1, rows=WIDTH)[0].detach()
    results = []
    for m in (converted, plain):
        torch.manual_seed(1)
        with torch.no_grad():
            results.append((m(x.clone(), method), torch.rand(1)))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("adds_two", ["norm"]),  # the one in a variable waits, and the other is what is added
        ("takes_the_norm_or_not", ["sum"]),  # nothing is calculated ahead that may not be asked for
        ("takes_two_norms", ["sum"]),
        ("may_fail", []),
        ("is_in_place", []),
        ("adds_another_type", ["dropout"]),
    ],
)
def test_how_much_is_one_step(method, expected, steps):
    lh.convert(Refusals().double())(*inputs(1), method)
    assert steps == expected


def test_under_autocast_the_sum_is_pytorchs():
    model = PostNorm()
    converted, plain = lh.convert(copy.deepcopy(model)), one_by_one(model)
    x = inputs(1)[0].detach().float()
    results = []
    for m in (converted, plain):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            results.append(m(x))
    assert torch.equal(*results)


@pytest.mark.parametrize("name", ["post-norm", "pre-norm", "statements", "own methods"])
def test_compiles_and_exports_whole(name):
    make, count, _ = MODELS[name]
    model, xs = lh.convert(make().double()), inputs(count)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(step(compiled, xs)[2:], step(model, xs)[2:], **CLOSE)
    model.eval()
    program = torch.export.export(model, tuple(xs))
    torch.testing.assert_close(program.module()(*xs), model(*xs))
    assert "levelhead" not in str(program.graph)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")  # its own use
@pytest.mark.parametrize("norm_first", [True, False])
def test_pytorchs_layers_keep_their_fast_path(norm_first):
    """Its results without gradients, with a mask, and what the container of layers makes of them."""
    layer = encoder(norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()
    converted = lh.convert(copy.deepcopy(model))
    x = torch.randn(3, 5, WIDTH)
    lengths = torch.tensor([5, 2, 4])
    mask = torch.arange(5) >= lengths[:, None]
    for each in (None, mask):
        with torch.no_grad():
            torch.testing.assert_close(converted(x, src_key_padding_mask=each), model(x, src_key_padding_mask=each))
    with torch.profiler.profile() as profile, torch.no_grad():
        converted(x)
    assert any("_transformer_encoder_layer_fwd" in event.key for event in profile.key_averages())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")  # PyTorch's own call
def test_onnx_in_onnxruntime(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = lh.convert(nn.Sequential(PreNorm(), PostNorm(), Own())).eval(), torch.randn(2, 4, WIDTH)
    torch.onnx.export(model, (x,), tmp_path / "model.onnx", dynamo=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(x), rtol=1e-4, atol=1e-5)  # two float32 programs


def under_distribution(_rank):
    model = lh.convert(nn.Sequential(PreNorm(), PostNorm(), Own())).double()
    alone = step(model, inputs(1))
    wrapped = step(nn.parallel.DistributedDataParallel(model), inputs(1))
    return [[each.detach() for each in found] for found in (alone, wrapped)]


def test_wrapped_for_distribution():
    """One process: the hooks that gather gradients fire for every parameter, and the gradients are the same."""
    [(alone, wrapped)] = processes.run(under_distribution, 1)
    torch.testing.assert_close(wrapped, alone)


def test_it_trains():
    torch.manual_seed(0)
    model = lh.convert(nn.Sequential(PreNorm(0.1), PostNorm(0.1), nn.Linear(WIDTH, 1)))
    x = torch.randn(32, 5, WIDTH)
    target = x[..., :1] * x[..., 1:2]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
