"""What observers measure, worked out anew with plain autograd."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from study_fakes import digits
from torch import nn

from levelhead.studies import observers
from levelhead.studies.divergence import chords
from levelhead.studies.dropout import averaged, fixed
from levelhead.studies.inference_statistics import compare
from levelhead.studies.input_normalization import bowl
from levelhead.studies.views import Inputs, Rows, Wave
from levelhead.training import Recipe, build


@pytest.fixture(scope="module")
def data():
    return Rows(60)(digits(), 0)


def prepared(data, **fields):
    recipe = Recipe(**{"depth": 2, "width": 8, "learning_rate": 0.5, "steps": 4} | fields)
    return build(recipe, data).eval(), recipe


def gradient(model, data):
    model.zero_grad()
    nn.functional.cross_entropy(model(data.train.inputs), data.train.targets).backward()
    return [module.weight.grad.clone() for module in model.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_the_shift_is_the_change_of_a_gradient_by_the_layers_below(data, normalization):
    model, recipe = prepared(data, normalization=normalization)
    got = observers.drift(copy.deepcopy(model), recipe, data, 0)
    model.train()
    before = gradient(model, data)
    changes = []
    for layer in (1, 2):  # the layers below it have taken their step, it and those above have not
        moved = copy.deepcopy(model)
        linear = [module for module in moved.modules() if isinstance(module, nn.Linear)]
        with torch.no_grad():
            for below in range(layer):
                linear[below].weight -= 0.5 * before[below]
        changes.append(float((gradient(moved, data)[layer] - before[layer]).norm() / before[layer].norm()))
    assert got["shift"] == pytest.approx(sum(changes) / 2, rel=1e-4)
    assert len([name for name in got if name.startswith("mean/2/")]) == 8


def test_the_variance_of_a_layers_sums_is_over_what_the_formulas_say(data):
    model, recipe = prepared(data)
    got = observers.variances(model, recipe, data, 0)
    below = data.train.inputs.flatten(1)
    for i, linear in enumerate([module for module in model.modules() if isinstance(module, nn.Linear)][:2], start=1):
        sums = linear(below).detach()
        gain = linear.in_features * linear.weight.detach().var()
        assert got[f"variance/{i}"] == pytest.approx(float(sums.var() / (gain * below.square().mean())), rel=1e-4)
        assert got[f"centred/{i}"] == pytest.approx(float(sums.var() / (gain * below.var())), rel=1e-4)
        below = sums.relu()
    assert observers.variances(model, recipe, data, 1) == {}


def test_a_deviation_is_the_divergence_from_the_unit_gaussian(data):
    model, recipe = prepared(data)
    first = next(module for module in model.modules() if isinstance(module, nn.Linear))
    got = observers.drift(copy.deepcopy(model), recipe, data, 0)
    sums = first(data.train.inputs.flatten(1)).detach().double()
    units = [torch.distributions.Normal(s.mean(), s.std()) for s in sums.T]
    unit = torch.distributions.Normal(torch.zeros((), dtype=torch.double), torch.ones((), dtype=torch.double))
    want = [float(torch.distributions.kl_divergence(own, unit)) for own in units]
    assert got["deviation/1"] == pytest.approx(sum(want) / len(want), rel=1e-4)


def test_one_mask_is_the_same_in_every_batch_and_in_evaluation(data):
    recipe = Recipe(depth=2, width=64, dropout=0.5, network="levelhead.studies.dropout:fixed")
    torch.manual_seed(0)
    model = fixed(recipe, data)
    assert not [module for module in model.modules() if isinstance(module, nn.Dropout)]
    masks = [mask for name, mask in model.named_buffers() if name.endswith("mask")]
    assert len(masks) == 2
    assert not torch.equal(*masks)
    assert all(set(mask.tolist()) == {0.0, 2.0} for mask in masks)
    x = data.train.inputs
    torch.testing.assert_close(model.train()(x), model.eval()(x))
    torch.manual_seed(0)
    torch.testing.assert_close(fixed(recipe, data)(x), model(x))


def test_the_landscape_is_that_of_steps_along_the_gradient(data):
    model, recipe = prepared(data)
    got = observers.landscape(copy.deepcopy(model), recipe, data, 0)
    first = gradient(model, data)
    length = math.sqrt(sum(float(g.square().sum()) for g in first))
    losses, changes, slopes = [], [], []
    for times in (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4):
        moved = copy.deepcopy(model)
        linear = [module for module in moved.modules() if isinstance(module, nn.Linear)]
        with torch.no_grad():
            for layer, g in zip(linear, first, strict=True):
                layer.weight -= times * 0.5 * g
            losses.append(float(nn.functional.cross_entropy(moved(data.train.inputs), data.train.targets)))
        after = gradient(moved, data)
        changes.append(math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(after, first, strict=True))))
        slopes.append(changes[-1] / (times * 0.5 * length))
    want = {"variation": max(losses) - min(losses), "unpredicted": max(changes), "smoothness": max(slopes)}
    assert got == pytest.approx(want, rel=1e-3)  # differences of float32 losses


def test_the_flow_is_of_the_first_and_the_last_hidden_layer(data):
    model, recipe = prepared(data, depth=3)
    norms = [float(g.norm()) for g in gradient(model.train(), data)]
    got = observers.flow(model, recipe, data, 0)
    assert [got[f"gradient/{i}"] for i in range(1, 5)] == pytest.approx(norms, rel=1e-5)
    assert got["decay"] == pytest.approx(abs(math.log10(norms[2] / norms[0])), rel=1e-4)


def test_saturation_counts_outputs_near_the_ends(data):
    model, recipe = prepared(data, activation="sigmoid")
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for layer in linear:
            layer.weight.zero_()
            layer.bias.zero_()
        linear[0].bias[:4] = 4.0  # σ(4) = 0.98: half of the first layer's units, none of the second's
    assert observers.saturation(model, recipe, data, 0) == {"saturated": 0.25}


def test_the_size_of_weights_and_the_response():
    data = Wave(20, 0.0)(digits(), 0)
    model, recipe = prepared(data, depth=1, width=2)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():  # y = 3 |x|
        linear[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        linear[0].bias.zero_()
        linear[1].weight.copy_(torch.tensor([[3.0, 3.0]]))
        linear[1].bias.zero_()
    got = observers.size(model, recipe, data, 0)
    assert got["weight_norm"] == pytest.approx(math.sqrt(1 + 1 + 9 + 9))
    assert got["zeros"] == 0
    assert got["steepness"] == pytest.approx(3, rel=1e-5)
    # The slope jumps by 6 at one of the 99 inner places: 6 / 0.02 there, 0 elsewhere, but for float32.
    assert got["roughness"] == pytest.approx(6 / 0.02 / 99, rel=1e-2)
    with torch.no_grad():
        linear[1].weight[0, 0] = 0
    assert observers.size(model, recipe, data, 0)["zeros"] == 0.25


def test_the_condition_number_is_that_of_the_whole_hessian():
    data = Inputs("standardized")(Rows(80)(digits(), 0), 0)
    model, recipe = prepared(data, depth=0)
    got = bowl(model, recipe, data, 0)
    x = torch.cat([data.train.inputs, torch.ones(80, 1)], 1).double()
    linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
    w = torch.cat([linear.weight, linear.bias[:, None]], 1).detach().double()

    def loss(flat):
        return nn.functional.cross_entropy(x @ flat.view_as(w).T, data.train.targets)

    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, w.flatten()))
    null = w.shape[1]  # one vector added to all classes
    assert float(values[:null].abs().max()) < 1e-9 * float(values[-1])
    # The smallest value is 1e-5 of the largest here: double's rounding leaves 9 digits or so.
    assert got["condition"] == pytest.approx(float(values[-1] / values[null]), rel=1e-5)
    assert list(got) == ["condition"]
    got = bowl(model, recipe, data, recipe.steps)
    assert len(got["surface"]) == len(got["grid"]) ** 2
    assert got["surface"][len(got["surface"]) // 2] == pytest.approx(float(loss(w.flatten())), rel=1e-9)
    assert bowl(model, recipe, data, 2) == {}


def test_kl_has_no_dent_and_l2_has(data):
    model, recipe = prepared(data, depth=0)
    got = chords(model, recipe, data, 0)
    assert got["dents_kl"] == 0
    assert 0 < got["dents_l2"] < 1


def test_the_average_over_passes_is_of_passes_with_dropout(data):
    model, recipe = prepared(data, dropout=0.5, width=64)
    got = averaged(model, recipe, data, 4)
    # 100 passes of 359 rows and 64 units: the mean of the scaled outputs comes to well under a per cent. Behind the
    # next ReLU it is larger, as the mean of max(0, z) grows with the spread of z.
    assert got["first_ratio"] == pytest.approx(1, abs=0.01)
    assert got["last_ratio"] > 1.1
    assert model.training, "the passes are made with dropout"
    assert averaged(*prepared(data, dropout=0.5), data, 2) == {}


def test_the_statistics_of_a_moving_average_are_farther_than_those_of_all_batches(data):
    model, recipe = prepared(data, normalization="batch", batch_size=10)
    got = compare(model, recipe, data, 4)  # before training, the moving average is at 0 and 1
    assert got["distance/moving"] > 3 * got["distance/averaged"]
    assert got["variance/sorted"] < 0.9 < got["variance/averaged"] < 1.1


def test_scores_beside_those_of_a_run_are_by_its_measure(data):
    rare = replace(data.validation, targets=data.validation.targets.clamp(max=1))
    skewed = replace(data, validation=rare, measure="balanced accuracy")
    model, recipe = prepared(skewed, normalization="batch", dropout=0.5)
    right = (model(rare.inputs).argmax(1) == rare.targets).double()
    each = [float(right[rare.targets == k].mean()) for k in (0, 1)]
    assert abs(sum(each) / 2 - float(right.mean())) > 0.01, "the two measures differ here"
    assert compare(model, recipe, skewed, 4)["score/moving"] == pytest.approx(sum(each) / 2, abs=1e-12)
    unscaled = averaged(model, recipe.replace(dropout=0.0), skewed, 4)["unscaled_score"]
    assert unscaled == pytest.approx(sum(each) / 2, abs=1e-12)
