"""Networks and how their weights begin."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn
from training_samples import classes, images, small

from levelhead.init import SCHEMES, gain, initialize_
from levelhead.training import Recipe, RecipeError, build
from levelhead.training.initialization import activation
from levelhead.training.probes import layers
from levelhead.training.recipe import CHOICES
from levelhead.training.seeding import WEIGHTS, generator


@pytest.mark.parametrize("network", ["mlp", "convnet"])
@pytest.mark.parametrize("normalization", CHOICES["normalization"])
@pytest.mark.parametrize("placement", CHOICES["placement"])
def test_every_network_gives_an_output_a_class_and_a_gradient_everywhere(network, normalization, placement):
    if (network, normalization) == ("mlp", "instance"):
        pytest.skip("refused by the recipe")
    data = images()
    model = build(Recipe(network=network, normalization=normalization, placement=placement, width=8, depth=4), data)
    out = model(data.train.inputs[:5])
    assert out.shape == (5, 3)
    out.logsumexp(1).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("placement", CHOICES["placement"])
def test_the_order_of_the_lectures(placement):
    data = classes()
    recipe = Recipe(normalization="batch", placement=placement, activation="tanh", depth=1, width=5)
    model = build(recipe, data)
    x = data.train.inputs[:20]
    hidden = layers(model)["hidden1"](x)

    def norm(z):
        return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()

    hidden = norm(hidden).tanh() if placement == "before" else norm(hidden.tanh())
    torch.testing.assert_close(model(x), layers(model)["output"](hidden))


def test_dropout_is_behind_every_hidden_layer_and_nowhere_else():
    model = build(Recipe(dropout=0.5, depth=2, initialization="he"), classes())
    x = classes().train.inputs
    hidden = model.hidden1(x)
    undropped = model.hidden1.layer(x).relu()
    kept = hidden != 0
    assert 0.4 < float(kept[undropped != 0].double().mean()) < 0.6  # of about 7,500 units
    torch.testing.assert_close(hidden[kept], 2 * undropped[kept])
    assert [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)] == [
        "hidden1.dropout",
        "hidden2.dropout",
    ]


def test_the_activations_are_what_their_names_say():
    x = torch.linspace(-7, 7, 29, dtype=torch.float64)
    wanted = {
        "relu": x.clamp(min=0),
        "leaky_relu": torch.where(x > 0, x, 0.01 * x),
        "elu": torch.where(x > 0, x, x.exp() - 1),
        "silu": x / (1 + (-x).exp()),
        "gelu": x * (1 + torch.erf(x / math.sqrt(2))) / 2,
        "gelu_tanh": x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        "sigmoid": 1 / (1 + (-x).exp()),
        "tanh": (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
        "relu6": x.clamp(0, 6),
        "hardswish": x * (x + 3).clamp(0, 6) / 6,
    }
    assert set(wanted) == set(CHOICES["activation"])
    for name, values in wanted.items():
        torch.testing.assert_close(activation(name)(x), values)


def test_the_bias_is_left_out_only_where_the_normalization_cancels_it():
    for name, placement in itertools.product(("none", "batch", "layer", "rms", "group"), CHOICES["placement"]):
        model = build(Recipe(normalization=name, placement=placement), classes())
        cancelled = (name, placement) == ("batch", "before")
        assert (layers(model)["hidden1"].bias is None) == cancelled
        assert layers(model)["output"].bias is not None


@pytest.mark.parametrize("initialization", CHOICES["initialization"])
def test_weights_depend_on_the_seed_alone(initialization):
    recipes = [
        Recipe(initialization=initialization, normalization=normalization, learning_rate=rate, seed=seed)
        for normalization, rate, seed in (("none", 0.1, 3), ("batch", 3.0, 3), ("none", 0.1, 4))
    ]
    before = torch.get_rng_state()
    mine, same, other = ({k: v.weight for k, v in layers(build(r, classes())).items()} for r in recipes)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(mine) == ["hidden1", "hidden2", "hidden3", "output"]
    # Calibrated weights are scaled by what their inputs are, which normalization changes: only the directions agree.
    for name, weight in same.items():
        if initialization == "calibrated":
            torch.testing.assert_close(mine[name] / mine[name].norm(), weight / weight.norm())
        else:
            assert torch.equal(mine[name], weight)
    assert all(torch.equal(mine[name], other[name]) for name in mine) == (initialization == "zero")


def test_the_gain_of_relu_is_that_of_he_and_any_gain_keeps_the_mean_square():
    assert gain("relu") == pytest.approx(math.sqrt(2), abs=1e-7)
    assert gain("linear") == 1
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)  # exact for smooth functions
    tanh = 1 / math.sqrt((weights * np.tanh(nodes) ** 2).sum() / math.sqrt(2 * math.pi))
    assert gain("tanh") == pytest.approx(tanh, rel=1e-6)


@pytest.mark.parametrize("name", CHOICES["activation"])
@pytest.mark.parametrize("initialization", ["he", "orthogonal"])
def test_the_mean_square_through_ten_layers_is_that_of_the_theory(name, initialization):
    """q' = g² E[σ(√q z)²] (He et al. 2015, equation 8): relu keeps its q of 2, tanh falls to 1, silu grows."""
    recipe = Recipe(activation=name, initialization=initialization, width=400, depth=10)
    model = build(recipe, classes((400,)))
    x = torch.randn(300, 400)
    squares = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, args, out: squares.append(float(out.detach().square().mean())))
    model(x)
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    square = 1.0
    for _ in range(10):
        before = gain(name) ** 2 * square
        of = activation(name)(torch.tensor(nodes * math.sqrt(before))).numpy()
        square = (weights * of**2).sum() / math.sqrt(2 * math.pi)
    # 400 units a layer: the mean square of ten layers wanders by about √(10·5/400) = 0.35 of itself, one deviation.
    assert len(squares) == 11
    assert 0.3 < squares[-2] / before < 3
    assert 0.3 < squares[-1] / square < 3


def test_the_deviations_of_the_formulas():
    data = classes((300,))
    n, m = 300, 500  # 150,000 weights: the deviation is known to 0.2 %
    wanted = {
        "default": 1 / math.sqrt(3 * n),
        "zero": 0.0,
        "small": 0.01,
        "large": 1.0,
        "xavier": math.sqrt(2) * math.sqrt(2 / (n + m)),
        "he": math.sqrt(2 / n),
        "lecun": math.sqrt(1 / n),
        "orthogonal": math.sqrt(2 / m),
    }
    for name, deviation in wanted.items():
        layer = layers(build(Recipe(initialization=name, width=m), data))["hidden1"]
        assert float(layer.weight.detach().std()) == pytest.approx(deviation, rel=0.01)
        assert (float(layer.bias.detach().abs().max()) > 0) == (name == "default")
    built = layers(build(Recipe(initialization="he", width=m), data))
    assert float(built["hidden2"].weight.detach().std()) == pytest.approx(math.sqrt(2 / m), rel=0.01)
    # Nothing follows the output layer: 1,500 weights, to 2 %.
    assert float(built["output"].weight.detach().std()) == pytest.approx(math.sqrt(1 / m), rel=0.06)


@pytest.mark.parametrize("initialization", SCHEMES)
@pytest.mark.parametrize("changes", [{}, {"network": "convnet", "normalization": "batch", "width": 4}])
def test_a_recipe_and_initialize_give_the_same_weights(initialization, changes):
    recipe = Recipe(initialization=initialization, seed=3, **changes)
    model = build(recipe, images())
    other = build(recipe.replace(initialization="large", seed=4), images())
    initialize_(other, initialization, generator=generator(3, WEIGHTS))
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_convnet_halves_and_doubles_in_three_stages():
    model = build(Recipe(network="convnet", width=4, depth=5), classes((1, 28, 28)))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [4, 4, 8, 8, 16]
    assert [c.stride[0] for c in convolutions] == [1, 1, 2, 1, 2]


def test_a_convnet_of_rows_is_refused():
    with pytest.raises(RecipeError, match=r"needs images.*\(6,\).*'mlp'"):
        build(Recipe(network="convnet"), classes())


MINE = """
import torch
from torch import nn

def plain(recipe, data):
    return nn.Linear(data.input_shape[0], data.outputs)

def lazy_with_norm(recipe, data):
    width = recipe.width
    return nn.Sequential(nn.LazyLinear(width), nn.BatchNorm1d(width), nn.Linear(width, data.outputs))

def wrong_shape(recipe, data):
    return nn.Linear(data.input_shape[0], 7)

def wrong_input(recipe, data):
    return nn.Linear(5, data.outputs)

def no_module(recipe, data):
    return "net"

constant = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_nets_for_the_test.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_nets_for_the_test"


def test_the_users_network_is_built_from_recipe_and_data(mine):
    recipe = small(network=f"{mine}:lazy_with_norm", normalization="batch", seed=5)
    one, two, other = (build(r, classes()) for r in (recipe, recipe, recipe.replace(seed=6)))
    assert one.training
    assert one[0].weight.shape == (16, 6)
    assert torch.equal(one[0].weight, two[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)
    assert torch.equal(one[2].weight, two[2].weight)
    assert not torch.equal(one[2].weight, other[2].weight)
    assert int(one[1].num_batches_tracked) == 0  # the trial run left no trace
    zero = build(recipe.replace(initialization="zero"), classes())
    assert not zero[0].weight.any()


@pytest.mark.parametrize(
    ("function", "normalization", "words"),
    [
        ("nothing", "none", "has no function 'nothing'"),
        ("constant", "none", "'constant' is not a function but of type int"),
        ("no_module", "none", "torch.nn.Module, got str"),
        ("wrong_shape", "none", r"\(2, 3\), got \(2, 7\)"),
        ("wrong_input", "none", r"fails on an input of shape \(2, 6\)"),
        ("plain", "layer", "no layer of the recipe's normalization 'layer'"),
    ],
)
def test_a_users_network_that_does_not_fit_is_refused(mine, function, normalization, words):
    with pytest.raises(RecipeError, match=words):
        build(Recipe(network=f"{mine}:{function}", normalization=normalization), classes())


def test_a_users_network_is_found_in_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from torch import nn\n\n\ndef net(recipe, data):\n    return nn.Linear(6, data.outputs)\n")
    assert isinstance(build(Recipe(network=f"{file}:net"), classes()), nn.Linear)
    with pytest.raises(RecipeError, match="has no function 'nets'"):
        build(Recipe(network=f"{file}:nets"), classes())
    with pytest.raises(RecipeError, match=r"none\.py: there is no such file"):
        build(Recipe(network=f"{tmp_path}/none.py:net"), classes())


def test_a_file_can_use_what_lies_beside_it_and_define_dataclasses(tmp_path, monkeypatch):
    folder = tmp_path / "my nets"  # a path with a space
    folder.mkdir()
    (folder / "beside_own.py").write_text("from torch import nn\n")
    (folder / "own_net.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from beside_own import nn\n\n\n"
        "@dataclass\nclass Sizes:\n    inputs: int = 6\n\n\n"
        "def net(recipe, data):\n    return nn.Linear(Sizes().inputs, data.outputs)\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert isinstance(build(Recipe(network=f"{folder}/own_net.py:net"), classes()), nn.Linear)


def test_a_missing_module_is_named(mine):
    with pytest.raises(RecipeError, match=r"no_such_module_here.*looked in"):
        build(Recipe(network="no_such_module_here:f"), classes())
