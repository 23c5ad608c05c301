"""The extras of the modules, their state, and the worked example of the lectures."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

import levelhead as lh
from levelhead.ops import library


def test_the_worked_example_of_the_lectures(backend):
    x = torch.tensor([[4.0], [7.0], [5.0]])
    y = lh.nn.BatchNorm1d(1)(x)
    assert [round(v, 3) for v in y.flatten().tolist()] == [-1.069, 1.336, -0.267]


def test_momentum_none_keeps_the_cumulative_average(backend):
    module = lh.nn.BatchNorm1d(3, momentum=None)
    batches = [torch.randn(n, 3) * 2 + 1 for n in (4, 4, 4)]
    for batch in batches:
        module(batch)
    torch.testing.assert_close(module.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    torch.testing.assert_close(module.running_var, torch.stack([b.var(0) for b in batches]).mean(0))


@pytest.mark.parametrize("name", ["BatchNorm1d", "InstanceNorm1d"])
@pytest.mark.parametrize("unbiased", [True, False])
def test_unbiased_decides_which_variance_is_kept(backend, name, unbiased):
    x = torch.randn(6, 3, 4)
    module = getattr(lh.nn, name)(3, momentum=1.0, track_running_stats=True, unbiased=unbiased)
    module(x)
    correction = int(unbiased)
    if name == "BatchNorm1d":
        expected = x.transpose(0, 1).reshape(3, -1).var(1, correction=correction)
    else:
        expected = x.var(2, correction=correction).mean(0)
    torch.testing.assert_close(module.running_var, expected)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (lh.nn.BatchNorm2d(4, activation="relu"), (3, 4, 5, 5)),
        (lh.nn.InstanceNorm2d(4, activation="relu"), (3, 4, 5, 5)),
        (lh.nn.InstanceNorm2d(4, activation="relu"), (4, 5, 5)),
        (lh.nn.GroupNorm(2, 4, activation="relu"), (3, 4, 5, 5)),
        (lh.nn.LayerNorm(5, activation="relu"), (3, 4, 5)),
        (lh.nn.RMSNorm(5, activation="relu"), (3, 4, 5)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else None,
)
def test_residual_and_activation_in_their_order(backend, module, shape):
    plain = copy.deepcopy(module)
    plain.activation = None
    x, residual = torch.randn(shape), torch.randn(shape)
    torch.testing.assert_close(module(x, residual), F.relu(plain(x) + residual))
    torch.testing.assert_close(module(x), F.relu(plain(x)))
    assert "activation='relu'" in repr(module)


def test_a_bad_activation_is_refused_at_construction():
    with pytest.raises(ValueError, match="unknown activation 'softmax'"):
        lh.nn.LayerNorm(3, activation="softmax")


def test_one_step_of_training_is_that_of_pytorch(backend):
    """Gradients, buffers and parameters after an update, through a small network."""

    def step(norm):
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(5, 6), norm.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(8, 5)), torch.randint(2, (8,))).backward()
            optimizer.step()
        return model.state_dict()

    torch.testing.assert_close(step(lh.nn), step(torch.nn))


def test_eval_uses_the_running_estimates_through_the_reference(reference):
    ours, theirs = lh.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    for module in (ours, theirs):
        module(x)
        module.eval()
    expected = torch.autograd.grad(theirs(x).pow(2).sum(), [x, theirs.weight, theirs.bias])
    torch.testing.assert_close(torch.autograd.grad(ours(x).pow(2).sum(), [x, ours.weight, ours.bias]), expected)


@pytest.mark.parametrize("name", ["LayerNorm", "BatchNorm1d", "Dropout"])
def test_scripting_says_what_to_do_and_that_works(name):
    argument = 0.25 if name == "Dropout" else 4
    plain = torch.nn.Sequential(getattr(torch.nn, name)(argument)).eval()
    model = lh.convert(copy.deepcopy(plain))
    with pytest.raises(NotImplementedError, match=f"levelhead's {name}.*lh.nn.unconvert"):
        torch.jit.script(model)
    scripted = torch.jit.script(lh.nn.unconvert(copy.deepcopy(model)))
    x = torch.randn(3, 4)
    assert torch.equal(scripted(x), plain(x))


class Sevens(torch.Tensor):
    """Of a class that says itself what some functions of PyTorch do."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        names = {"layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm", "dropout", "feature_dropout"}
        if function.__name__ in names:
            return torch.full(args[0].shape, 7.0)
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "BatchNorm1d", "GroupNorm", "InstanceNorm1d", "Dropout"])
def test_a_tensor_that_says_itself_what_functions_do_is_heard(name):
    arguments = (2, 4) if name == "GroupNorm" else (4,)
    plain = getattr(torch.nn, name)(*([0.5] if name == "Dropout" else arguments))
    for module in (plain, lh.convert(copy.deepcopy(plain))):
        assert torch.equal(module(torch.randn(3, 4, 4).as_subclass(Sevens)), torch.full((3, 4, 4), 7.0))


def test_a_tensor_of_another_kind_takes_no_extras_that_pytorch_does_not_know():
    x = torch.randn(3, 4).as_subclass(Sevens)
    for extras in ({"unbiased": False}, {"statistics": "population"}):
        with pytest.raises(NotImplementedError, match="a Sevens takes no mask=, lengths= or policy"):
            lh.nn.BatchNorm1d(4, **extras)(x)
        lh.nn.BatchNorm1d(4, **extras).eval()(x)
    with pytest.raises(NotImplementedError, match="a Sevens takes no mask="):
        lh.nn.LayerNorm(4)(x, mask=torch.ones(3, 1, dtype=torch.bool))


@pytest.mark.parametrize("x", [None, [1.0], 3, "text"], ids=repr)
@pytest.mark.parametrize("make", [lambda nn: nn.LayerNorm(4), lambda nn: nn.RMSNorm(4), lambda nn: nn.Dropout()])
def test_what_is_no_tensor_is_refused_as_pytorch_refuses_it(make, x):
    said = []
    for nn in (torch.nn, lh.nn):
        with pytest.raises(TypeError) as error:
            make(nn)(x)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_inputs_of_any_size_go_to_our_own_path(monkeypatch):
    calls = []
    original = library.direct
    monkeypatch.setattr(library, "direct", lambda *args: calls.append(args[0].shape) or original(*args))
    module = lh.nn.BatchNorm1d(4)
    for rows in (8, 2**18):
        module(torch.randn(rows, 4))
    assert calls == [(8, 4), (2**18, 4)]


class TestConvert:
    def model(self):
        return torch.nn.ModuleDict(
            {
                "conv": torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()),
                "group": torch.nn.GroupNorm(2, 4),
                "instance": torch.nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
                "layer": torch.nn.LayerNorm(5),
                "rms": torch.nn.RMSNorm(5),
                "encoder": torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            }
        )

    def test_everything_is_replaced_and_nothing_lost(self):
        model = self.model()
        state = dict(model.state_dict(keep_vars=True))
        fired = []
        model["layer"].register_forward_hook(lambda *_: fired.append(True))
        model["rms"].eval()
        assert lh.convert(model) is model
        assert [type(m).__module__.split(".")[0] for m in model.modules() if "Norm" in type(m).__name__] == [
            "levelhead"
        ] * 7
        after = model.state_dict(keep_vars=True)
        assert list(after) == list(state)
        assert all(after[name] is state[name] for name in state)  # the optimizer's tensors
        model["layer"](torch.randn(2, 5))
        assert fired == [True]
        assert not model["rms"].training

    def test_the_results_stay(self):
        model = self.model()
        x, tokens = torch.randn(2, 1, 6, 6), torch.randn(2, 3, 8)
        clone = lh.convert(copy.deepcopy(model))
        torch.testing.assert_close(clone["conv"](x), model["conv"](x))
        for m in (clone, model):
            m.eval()
        torch.testing.assert_close(clone["encoder"](tokens), model["encoder"](tokens))

    def test_a_norm_alone_and_twice(self):
        norm = lh.convert(torch.nn.LayerNorm(3))
        assert type(norm) is lh.nn.LayerNorm
        assert type(lh.convert(norm)) is lh.nn.LayerNorm

    def test_a_strangers_subclass_with_a_forward_of_its_own_is_left_alone(self):
        class Own(torch.nn.LayerNorm):
            def forward(self, x):
                return 2 * super().forward(x).abs()

        assert type(lh.convert(Own(3))) is Own

    def test_a_converted_model_pickles(self):
        model = lh.convert(torch.nn.Sequential(torch.nn.LayerNorm(3)))
        x = torch.randn(2, 3)
        torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x), model(x))

    def test_not_a_module(self):
        with pytest.raises(TypeError, match=r"convert takes a torch\.nn\.Module, got dict"):
            lh.convert({})
