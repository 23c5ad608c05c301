"""``convert`` fuses what follows a normalization, and nothing else changes."""

from __future__ import annotations

import copy
import pickle
import random
import types

import pytest
import torch
import torch.nn.functional as F
from nn.fusion_models import MODELS, BasicBlock, DenseLayer, InvertedResidual, Moods, PreActivation, Shared, TwoArms
from torch import nn

import levelhead as lh


@pytest.fixture
def fused(monkeypatch):
    """The activations, and whether there was a residual, of every call that had one or the other."""
    calls = []

    def spy(original):
        def call(*args, activation=None, residual=None, **kwargs):
            if activation is not None or residual is not None:
                calls.append((activation, residual is not None))
            return original(*args, activation=activation, residual=residual, **kwargs)

        return call

    for name in ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"):
        monkeypatch.setattr(lh.ops, name, spy(getattr(lh.ops, name)))
    return calls


def step(model, x):
    """The output, and every gradient, of one pass with the same chance."""
    torch.manual_seed(5)
    random.seed(5)
    x = x.clone().requires_grad_()
    y = model(x)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(y.square().sum(), [x, *parameters], allow_unused=True)
    return y, gradients


@pytest.mark.parametrize("name", MODELS)
def test_the_results_and_the_gradients_stay_and_the_calls_are_fused(backend, name, fused):
    make, shape, expected = MODELS[name]
    model = make().double()
    converted = lh.convert(copy.deepcopy(model))
    x = torch.randn(shape, dtype=torch.float64)
    for _ in range(2):  # the second time from running estimates that moved
        fused.clear()
        ours = step(converted, x)
        assert sum(activation is not None for activation, _ in fused) == expected * (2 if name == "recomputed" else 1)
        torch.testing.assert_close(ours, step(model, x), rtol=1e-9, atol=1e-11)  # float64, sums in another order
    torch.testing.assert_close(converted.state_dict(), model.state_dict(), rtol=1e-12, atol=1e-12)
    fused.clear()
    torch.testing.assert_close(converted.eval()(x), model.eval()(x), rtol=1e-10, atol=1e-12)
    assert sum(activation is not None for activation, _ in fused) == expected
    torch.testing.assert_close(step(converted, x), step(model, x), rtol=1e-9, atol=1e-11)


def test_the_sum_goes_in_too(fused):
    lh.convert(BasicBlock(4, 6, 2))(torch.randn(2, 4, 6, 6))
    assert fused == [("relu", False), ("relu", True)]


def test_a_sum_goes_in_where_no_activation_follows_that_is_ours(fused):
    model = InvertedResidual(4)
    model.act = nn.Mish()
    lh.convert(model)(torch.randn(2, 4, 6, 6))
    assert fused == [(None, True), ("hardswish", True)]
    assert lh.nn.explain(model).fused == {"": "self.bn2 + add, self.bn2 + add + hardswish"}


@pytest.mark.parametrize("name", MODELS)
def test_identities_names_and_weights_stay(name):
    model = MODELS[name][0]()
    before = dict(model.named_modules())
    tensors = model.state_dict(keep_vars=True)
    original = copy.deepcopy(model)
    assert lh.convert(model) is model
    after = dict(model.named_modules())
    assert list(after) == list(before)
    assert all(after[key] is before[key] and isinstance(after[key], type(m)) for key, m in original.named_modules())
    assert all(model.state_dict(keep_vars=True)[key] is tensors[key] for key in tensors)
    original.load_state_dict(model.state_dict())
    model.load_state_dict(original.state_dict())


@pytest.mark.parametrize("name", MODELS)
def test_copies_and_pickles(name, fused):
    make, shape, expected = MODELS[name]
    model = lh.convert(make()).eval()
    x = torch.randn(shape)
    for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        fused.clear()
        assert type(clone) is type(model)
        torch.testing.assert_close(clone(x), model(x))
        assert len([a for a, _ in fused if a]) == 2 * expected


def test_converting_twice_changes_nothing():
    model = lh.convert(TwoArms(4))
    kinds = [type(m) for m in model.modules()]
    text = lh.nn.explain(model)
    assert [type(m) for m in lh.convert(model).modules()] == kinds
    assert lh.nn.explain(model) == text == lh.nn.explain(TwoArms(4))


def test_explain_says_what_is_fused_and_what_is_not():
    assert lh.nn.explain(nn.Sequential(BasicBlock(4, 4), nn.BatchNorm2d(4), nn.Tanh())).fused == {
        "": "1 + tanh",
        "0": "self.bn1 + self.relu, self.bn2 + add + self.relu",
    }
    assert lh.nn.explain(DenseLayer(3)).fused == {}
    with pytest.raises(TypeError, match="got int"):
        lh.nn.explain(3)


def test_the_log_says_it(caplog):
    with caplog.at_level("INFO", "levelhead.convert"):
        lh.convert(nn.Sequential(nn.LayerNorm(3), nn.SiLU()))
    assert caplog.messages == ["Sequential: 0 + silu"]


def test_a_class_without_source_is_converted_module_by_module():
    scope = {"nn": nn, "F": F}
    exec(
        "class Typed(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.norm = nn.LayerNorm(3)\n"
        "    def forward(self, x):\n"
        "        return F.relu(self.norm(x))\n",
        scope,
    )
    model = lh.convert(scope["Typed"]())
    assert type(model) is scope["Typed"]
    assert type(model.norm) is lh.nn.LayerNorm
    assert lh.nn.explain(model).left == {"": "module by module: its source cannot be read"}


def test_a_forward_that_was_exchanged_on_the_module_is_kept():
    model = PreActivation(4)
    model.forward = types.MethodType(lambda self, x: F.silu(self.bn1(x)), model)
    lh.convert(model)
    assert type(model) is PreActivation
    assert "exchanged" in lh.nn.explain(model).left[""]


def test_arguments_attributes_and_chance_are_not_frozen(fused):
    model = Moods(5)
    converted = lh.convert(copy.deepcopy(model))
    x, mask = torch.randn(4, 5), torch.randint(2, (4, 5))
    for mode in (True, False):
        for seed in range(4):
            for m in (model, converted):
                m.train(mode)
                m.scale = seed + 0.5
            results = []
            for m in (model, converted):
                torch.manual_seed(seed)
                random.seed(seed)
                results.append((m(x), m(x, mask), m(x, mask=mask, skip=True)))
            torch.testing.assert_close(*results)
    assert converted.seen == model.seen
    assert len(fused) == 24


@pytest.mark.parametrize("who", ["bn2", "relu"])
def test_who_listens_with_a_hook_hears_what_was(who, fused):
    """Hooks from before and from after the conversion; without them the calls are fused again."""
    model, x, heard = BasicBlock(4, 4).double(), torch.randn(2, 4, 6, 6).double(), []

    def listen(module):
        return getattr(module, who).register_forward_hook(lambda _, inputs, output: heard.append(output.clone()))

    before = listen(model)
    model(x)
    original, heard[:] = list(heard), []
    lh.convert(model)(x)
    torch.testing.assert_close(heard, original, rtol=1e-12, atol=1e-12)
    before.remove()
    heard.clear()
    after = listen(model)
    model(x)
    torch.testing.assert_close(heard, original, rtol=1e-12, atol=1e-12)
    after.remove()
    fused.clear()
    model(x)
    assert len(fused) == 2


def test_a_global_hook_hears_every_module():
    model, x = lh.convert(BasicBlock(4, 4)), torch.randn(2, 4, 6, 6)
    heard = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: heard.append(module))
    try:
        model(x)
    finally:
        handle.remove()
    assert heard.count(model.relu) == 2


def test_modules_can_be_exchanged_afterwards(backend):
    model, x = BasicBlock(4, 4).double(), torch.randn(2, 4, 6, 6).double()
    converted = lh.convert(copy.deepcopy(model))
    for m in (model, converted):
        m.bn1, m.relu = nn.Identity(), nn.Softplus()
    torch.testing.assert_close(converted(x), model(x), rtol=1e-10, atol=1e-12)

    sequence = nn.Sequential(nn.LayerNorm(3), nn.ReLU(), nn.LayerNorm(3), nn.ReLU())
    converted = lh.convert(copy.deepcopy(sequence))
    y = torch.randn(4, 3)
    torch.testing.assert_close(converted[:1](y), sequence[:1](y))
    torch.testing.assert_close(converted[1:](y), sequence[1:](y))
    converted[1] = sequence[1] = nn.LeakyReLU(0.3)  # not the slope that the operators know
    torch.testing.assert_close(converted(y), sequence(y))


def test_a_residual_that_broadcasts_is_left_to_pytorch(fused):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.shift = nn.LayerNorm(3), nn.Parameter(torch.randn(3))

        def forward(self, x):
            return torch.sigmoid(self.shift + self.norm(x))

    model, x = Gated(), torch.randn(4, 3)
    expected = model(x)
    lh.convert(model)
    torch.testing.assert_close(model(x), expected)
    assert fused == []
    model.shift = nn.Parameter(torch.randn(4, 3))
    model(x)
    assert fused == [("sigmoid", True)]


class Refusals(nn.Module):
    """Methods in which a normalization must not be put off."""

    def __init__(self):
        super().__init__()
        self.norm, self.other = nn.BatchNorm1d(3), nn.Linear(3, 3)

    def returns_in_between(self, x):
        y = self.norm(self.other(x))
        if x.sum() > -1e9:
            return x
        y = F.relu(y)
        return y  # noqa: RET504 - the form that is looked for

    def is_read_in_between(self, x):
        y = self.norm(self.other(x))
        z = y.mean()
        y = F.relu(y)
        return y + z

    def is_read_afterwards(self, x):
        y = self.norm(x)
        z = F.relu(y)
        return z + y

    def is_read_in_the_next_round(self, x):
        y = z = x
        for _ in range(2):
            z = z + y
            y = self.norm(self.other(x))
            z = z * F.relu(y)
        return z

    def has_an_input_that_changes(self, x):
        x = x * 1
        y = self.norm(x)
        x.mul_(3)
        y = F.relu(y)
        return y  # noqa: RET504 - the form that is looked for

    def has_a_residual_that_changes_the_input(self, x):
        x = x * 1
        return F.relu(self.norm(x) + x.mul_(3))

    def has_a_module_s_result_that_changes_in_the_sum(self, x):
        y = self.other(x)
        return F.relu(self.norm(y) + y.mul_(3))

    def is_added_to_what_changes_its_input(self, x):
        y = self.other(x)
        return self.norm(y) + y.mul_(3)

    def is_added_and_read(self, x):
        y = self.norm(self.other(x))
        z = y + x
        return z * y

    def has_a_module_s_result_that_changes_in_between(self, x):
        y = self.other(x)
        z = self.norm(y)
        y.mul_(3)
        z = F.relu(z)
        return z  # noqa: RET504 - the form that is looked for

    def is_called_in_between(self, x):
        y = self.norm(self.other(x))
        z = self.norm(x)
        y = F.relu(y)
        return y + z

    def is_called_in_the_residual(self, x):
        return F.relu(self.norm(self.other(x)) + self.norm(x).exp())

    def is_read_by_a_lambda(self, x):
        y = self.norm(self.other(x))
        f = lambda: y  # noqa: E731
        y = F.relu(y)
        return f() + y

    def is_doubled(self, x):
        y = self.norm(self.other(x))
        y = y + y
        return F.relu(y)

    def may_fail_in_between(self, x):
        y = self.norm(self.other(x))
        try:
            y += x[:, :2]
            y = F.relu(y)
        except RuntimeError:
            y = y * 2
        return y

    def has_another_slope(self, x):
        return F.leaky_relu(self.norm(x), 0.2) + F.leaky_relu(self.norm(x), negative_slope=x.numel())

    def is_read_by_a_test(self, x):
        y = self.other(x)
        y = self.norm(y)
        if y.sum() < 1e9:
            y = F.relu(y)
        return y

    def has_an_input_that_a_test_changes(self, x):
        y = self.other(x)
        z = y
        y = self.norm(y)
        if z.mul_(3) is not None:
            y = F.relu(y)
        return y

    def is_used_twice_behind_a_test(self, x):
        y = self.norm(self.other(x))
        if self.training:
            y = F.relu(y)
        return y * y

    def is_read_later_behind_a_test(self, x):
        y = self.norm(self.other(x))
        if self.training:
            y = F.relu(y)
        z = y * 2
        return z + y

    def shadows_the_function(self, x):
        relu = F.relu6
        return relu(self.norm(x) * 9)

    def forward(self, x, method):
        return getattr(self, method)(x)


@pytest.mark.parametrize("method", [n for n, f in vars(Refusals).items() if callable(f) and n[0] != "_" != n])
def test_what_must_not_be_put_off_is_not(method, fused):
    if method == "forward":
        return
    model = Refusals().double()
    converted = lh.convert(copy.deepcopy(model))
    x = torch.randn(5, 3).double()
    with torch.no_grad():
        torch.testing.assert_close(converted(x, method), model(x, method), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(converted.state_dict(), model.state_dict(), rtol=1e-12, atol=1e-12)
    if method != "is_called_in_the_residual":
        assert fused == []


def test_the_lines_of_a_traceback_are_the_users():
    model = lh.convert(BasicBlock(4, 4))
    with pytest.raises(RuntimeError) as caught:
        model(torch.randn(2, 3, 6, 6))
    lines = [str(entry.statement).strip() for entry in caught.traceback]
    assert "out = self.conv1(x)" in lines


@pytest.mark.parametrize("name", [n for n in MODELS if n not in {"loop", "moods", "recomputed", "encoder"}])
def test_compiles_and_exports_whole(name):
    make, shape, _ = MODELS[name]
    model, x = lh.convert(make()), torch.randn(shape)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    state = copy.deepcopy(model.state_dict())
    ours = step(compiled, x)
    model.load_state_dict(state)
    torch.testing.assert_close(ours, step(model, x))
    model.eval()
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), model(x))


def test_shared_normalizations_are_left(fused):
    model = Shared(3)
    lh.convert(model)(torch.randn(4, 3))
    assert fused == []


def test_a_channels_last_network_has_the_gradients_of_the_unconverted_one(backend):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True), BasicBlock(4, 4), BasicBlock(4, 6, 2)
    )
    model = model.double().to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 12, 12, dtype=torch.float64).to(memory_format=torch.channels_last)
    ours, theirs = step(lh.convert(copy.deepcopy(model)), x), step(model, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)  # sums of 576 values in another order
    assert ours[0].is_contiguous(memory_format=torch.channels_last)


class InPlaceBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu = lh.nn.BatchNorm2d(4, memory="inplace"), nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + x)


@pytest.mark.parametrize(
    "model", [InPlaceBlock, lambda: nn.Sequential(*InPlaceBlock().children())], ids=["block", "chain"]
)
def test_what_is_calculated_in_place_is_followed_by_what_was_written(model):
    model = model()
    x = torch.randn(2, 4, 8, 8)
    expected = model(x)
    torch.testing.assert_close(lh.convert(model)(x), expected)


def test_what_is_not_fused_can_be_changed_in_place(backend):
    """As by ``nn.ReLU(inplace=True)`` behind a norm with a hook."""
    norm, x = nn.BatchNorm2d(4).double(), torch.randn(2, 4, 3, 3, dtype=torch.float64)
    ours = lh.convert(copy.deepcopy(norm))
    torch.testing.assert_close(ours(x).relu_(), norm(x).relu_())
