"""One registry: what is entered there is known to all who ask what a layer is."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import levelhead as lh
from levelhead import kinds
from levelhead.doctor.evidence import structure
from levelhead.init.tracing import trace
from levelhead.nn import fusion
from levelhead.training import networks
from levelhead.training.recipe import Recipe


class ToyNorm(nn.Module):
    """x / max |x| of each row, and a scale of two dimensions."""

    def __init__(self, features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, features))

    def reset_parameters(self):
        nn.init.ones_(self.weight)

    def forward(self, x):
        return x / x.abs().amax(-1, keepdim=True) * self.weight


class OurToyNorm(ToyNorm):
    activation = None

    def forward(self, x, residual=None, *, activation=None):
        y = super().forward(x)
        y = y if residual is None else y + residual
        return y if activation is None else getattr(F, activation)(y)


TOY = kinds.Kind(ToyNorm, kinds.Norm, "toy_norm", OurToyNorm, axes="row", roles={"weight": "scale"})


@pytest.fixture
def toy():
    kinds.register(TOY)
    yield
    kinds.unregister(TOY)


def test_a_norm_that_is_registered_is_known_everywhere(toy, monkeypatch):
    model = nn.Sequential(nn.Linear(3, 4), ToyNorm(4), nn.ReLU(), nn.Linear(4, 4), ToyNorm(4))
    x = torch.randn(5, 3)
    expected = model(x)
    # regularizers: its parameter, of two dimensions, is no weight
    assert set(lh.regularizers.select(model)) == {"0.weight", "3.weight"}
    assert len(lh.regularizers.decay_groups(model, 0.1)[0]["params"]) == 2
    # init: it is looked through, and put back
    assert trace(model).activations["0"][0] == "ReLU"
    nn.init.zeros_(model[1].weight)
    lh.init.initialize_(model)
    assert torch.equal(model[1].weight, torch.ones(1, 4))
    # doctor, networks of recipes, ready-made tuples
    assert isinstance(model[1], structure.NORM)
    assert kinds.classes("toy_norm") == (ToyNorm,)
    # convert, fusion
    expected = model(x)
    assert lh.nn.explain(model).fused == {"": "1 + relu"}
    seen = []
    monkeypatch.setattr(OurToyNorm, "forward", lambda self, x, activation=None: seen.append(activation) or expected)
    kinds.register(TOY)
    lh.convert(model)
    assert type(model[1]) is OurToyNorm
    assert fusion.fusible(model[1])
    model[:3](x)
    assert seen == ["relu"]
    # fold: it is no map, and the layer before it stays
    assert kinds.of(model[1]) is TOY


def test_recipes_ask_the_registry(monkeypatch):
    known = {name for name in ("batch", "layer", "rms", "group", "instance") if kinds.classes(f"{name}_norm")}
    assert len(known) == 5
    assert not kinds.classes("none_norm")
    model = networks.normalizer(Recipe(normalization="rms"), (4,))
    assert isinstance(model, kinds.classes("rms_norm"))


class Activated(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class Named(nn.BatchNorm2d):
    pass


def test_a_class_is_what_its_forward_is():
    assert kinds.of(nn.BatchNorm2d(2)).op == "batch_norm"
    assert kinds.of(Named(2)) is kinds.of(lh.nn.BatchNorm2d(2)) is kinds.of(nn.BatchNorm2d(2))
    assert kinds.is_ours(lh.nn.BatchNorm2d(2))
    assert not kinds.is_ours(Named(2))
    assert kinds.of(Activated(2)) is None
    assert isinstance(Activated(2), kinds.Norm)
    exchanged = nn.ReLU()
    exchanged.forward = torch.tanh
    assert kinds.of(exchanged) is kinds.of(nn.Identity()) is kinds.of(3) is None
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert kinds.of(parametrized) is None
    assert isinstance(parametrized, kinds.Affine)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((F.relu, (True,), {}), "relu"),
        ((F.relu, (), {"inplace": True}), "relu"),
        ((torch.relu, (), {}), "relu"),
        ((F.leaky_relu, (0.01,), {}), "leaky_relu"),
        ((F.leaky_relu, (0.2,), {}), None),
        ((F.gelu, (), {"approximate": "tanh"}), "gelu_tanh"),
        ((F.elu, (), {"alpha": 2.0}), None),
        ((F.elu, (1.0, True), {}), "elu"),
        ((F.softplus, (), {}), None),
        ((F.relu6, (), {"inplace": True}), "relu6"),
        ((F.hardswish, (), {}), "hardswish"),
    ],
)
def test_functions_that_are_activations(call, name):
    assert kinds.activation_call(*call) == name


def test_modules_that_are_activations():
    found = [kinds.activation(m) for m in (nn.GELU("tanh"), nn.LeakyReLU(0.2), nn.SiLU(), nn.ReLU6(), nn.Linear(1, 1))]
    assert found == ["gelu_tanh", None, "silu", "relu6", None]
    assert [kinds.activation_method(n) for n in ("relu_", "tanh", "softmax", "mean")] == ["relu", "tanh", None, None]


def test_a_subclass_without_a_forward_of_its_own_is_converted_and_stays_itself():
    import copy
    import pickle

    model = nn.Sequential(nn.Conv2d(2, 3, 1), Named(3), nn.ReLU())
    plain, x = copy.deepcopy(model), torch.randn(4, 2, 3, 3)
    lh.convert(model)
    assert isinstance(model[1], Named)
    assert isinstance(model[1], lh.nn.BatchNorm2d)
    torch.testing.assert_close(model(x), plain(x))
    for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(clone[1]) is type(model[1])
        torch.testing.assert_close(clone.eval()(x), plain.eval()(x))
    activated = nn.Sequential(Activated(3))
    lh.convert(activated)
    assert (activated(torch.randn(4, 3, 2, 2)) >= 0).all()
