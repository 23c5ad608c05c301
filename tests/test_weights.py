"""Weights that a layer calculates from others, units of transposed convolutions, scales by their role."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from levelhead import kinds
from levelhead.init import calibrate_, initialize_
from levelhead.regularizers import L1, L2, ElasticNet, GroupLasso, MaxNorm, SpectralNorm, UnitNorm, decay_groups, select


class Positive(nn.Module):
    """A parametrization of the user's own, with an inverse."""

    def forward(self, x):
        return x**3

    def right_inverse(self, w):
        return w.sign() * w.abs() ** (1 / 3)


def old(function):
    def register(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return function(layer)

    return register


def halved(layer):
    return prune.random_unstructured(layer, "weight", 0.5)


#: What can be given any value; and what keeps a property of its own.
FREE = {
    "weight_norm": parametrizations.weight_norm,
    "weight_norm of old": old(nn.utils.weight_norm),
    "prune": halved,
    "the user's own": lambda layer: parametrize.register_parametrization(layer, "weight", Positive()) and layer,
}
BOUND = {
    "spectral_norm": parametrizations.spectral_norm,
    "spectral_norm of old": old(nn.utils.spectral_norm),
    "orthogonal": parametrizations.orthogonal,
}


def used(layer, shape=None):
    """The weight that the layer uses, by what it does to the unit vectors."""
    eye = torch.eye(layer.in_features)
    bias = 0 if layer.bias is None else layer.bias
    return (layer(eye) - bias).T.detach()


@pytest.mark.parametrize("name", FREE)
def test_the_weight_that_the_layer_uses_is_what_is_drawn(name):
    torch.manual_seed(0)
    layer = FREE[name](nn.Linear(400, 300))
    (drawn, *_) = initialize_(nn.Sequential(layer, nn.ReLU()))
    assert drawn.gain == pytest.approx(math.sqrt(2), abs=1e-7)
    out = layer(torch.randn(500, 400))
    assert float(out.detach().var()) == pytest.approx(2, rel=0.05)
    assert float(used(layer).square().mean()) == pytest.approx(2 / 400, rel=0.05)


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("scheme", ["he", "orthogonal"])
def test_what_cannot_be_drawn_is_refused_in_words_and_left(name, scheme):
    torch.manual_seed(0)
    layer = BOUND[name](nn.Linear(6, 4))
    layer.eval()
    before = used(layer)
    with pytest.raises(ValueError, match=r"'0.weight' is calculated from .*cannot give the result of initialize_"):
        initialize_(nn.Sequential(layer, nn.ReLU()), scheme)
    torch.testing.assert_close(used(layer), before)


def test_an_orthogonal_weight_takes_another_orthogonal_one():
    layer = parametrizations.orthogonal(nn.Linear(6, 6))
    before = used(layer)
    initialize_(nn.Sequential(layer), "orthogonal")
    now = used(layer)
    assert not torch.allclose(now, before, atol=0.1)
    torch.testing.assert_close(now @ now.T, torch.eye(6), atol=1e-5, rtol=0)


def test_attention_and_residual_ends_that_are_calculated():
    attention = parametrizations.weight_norm(nn.MultiheadAttention(64, 4), "in_proj_weight")
    initialize_(nn.Sequential(attention), "xavier")
    for part in attention.in_proj_weight.detach().chunk(3):
        assert float(part.std()) == pytest.approx(1 / 8, rel=0.05)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.end = parametrizations.weight_norm(nn.Linear(200, 200))

        def forward(self, x):
            return x + self.end(x)

    model = nn.Sequential(Residual(), Residual())
    assert [drawn.branch for drawn in initialize_(model)] == [pytest.approx(1 / math.sqrt(2))] * 2
    assert float(model[1].end.weight.detach().square().mean()) == pytest.approx(1 / 400, rel=0.05)


@pytest.mark.parametrize("name", [*FREE, *BOUND])
def test_a_penalty_is_that_of_the_weight_that_the_layer_uses(name):
    torch.manual_seed(0)
    layer = (FREE | BOUND)[name](nn.Linear(5, 4)).eval()
    layer(torch.ones(1, 5))
    weight = used(layer)
    for penalty, wanted in ((L1(1.0), weight.abs().sum()), (L2(1.0), weight.square().sum() / 2)):
        value = penalty(nn.Sequential(layer))
        torch.testing.assert_close(value.detach(), wanted)
        value.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters() if p is not layer.bias)


def stepped(layer, regularizer, optimizer=torch.optim.SGD, **kwargs):
    """One step with a gradient of 0."""
    model = nn.Sequential(layer)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    steps = optimizer(model.parameters(), lr=0.1, **kwargs)
    attached = regularizer.attach(steps, model)
    steps.step()
    return attached


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_attached_it_moves_the_weight_that_the_layer_uses(name, optimizer):
    torch.manual_seed(0)
    kwargs = {"weight_decay": 0.0} if optimizer is torch.optim.AdamW else {}
    for regularizer, wanted in (
        (L2(1.0), lambda w: 0.9 * w),
        (L1(0.5), lambda w: nn.functional.softshrink(w, 0.05)),
        (ElasticNet(0.5, 1.0), lambda w: nn.functional.softshrink(w, 0.05) / 1.1),
        (MaxNorm(0.5), lambda w: w * (0.5 / w.norm(dim=1, keepdim=True)).clamp(max=1)),
    ):
        layer = FREE[name](nn.Linear(5, 4))
        before = used(layer)
        attached = stepped(layer, regularizer, optimizer, **kwargs)
        torch.testing.assert_close(used(layer), wanted(before), rtol=1e-5, atol=1e-6)
        assert not torch.equal(used(layer), before)
        assert attached.zeros() == (int((used(layer).abs() <= 1e-12).sum()), 20) or name != "prune"


def test_a_unit_that_a_group_lasso_ends_stays_at_zero_and_finite():
    layer = parametrizations.weight_norm(nn.Linear(5, 4))
    with torch.no_grad():
        layer.parametrizations.weight.original0[2] = 1e-3
    stepped(layer, GroupLasso(1.0))
    assert used(layer).isfinite().all()
    assert (used(layer) == 0).all(1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("name", BOUND)
def test_a_bound_that_a_weight_cannot_keep_is_refused(name):
    layer = BOUND[name](nn.Linear(6, 6)).eval()
    before = used(layer)
    with pytest.raises(ValueError, match=r"'weight' is calculated from .* by .*cannot give the result of MaxNorm"):
        MaxNorm(0.1).apply_(layer)
    torch.testing.assert_close(used(layer), before)
    MaxNorm(5.0).apply_(layer)  # it is within it


def test_without_a_model_what_is_calculated_is_not_guessed():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="pass model="):
        L2(1.0).attach(torch.optim.SGD(model.named_parameters(), lr=0.1))


def test_calculated_weights_are_chosen_as_a_whole():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), old(nn.utils.weight_norm)(nn.Linear(3, 3)))
    assert list(select(model)) == [
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
        "1.weight_g",
        "1.weight_v",
    ]
    assert list(select(model, "0.weight")) == list(select(model))[:2]
    assert [len(group["params"]) for group in decay_groups(model, 0.1)] == [4, 2]
    for layer in model:
        with pytest.raises(ValueError, match="calculated from others"):
            calibrate_(layer, torch.randn(5, 3))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("make", [nn.ConvTranspose1d, nn.ConvTranspose2d])
def test_units_of_transposed_convolutions_are_their_outputs(make, groups):
    torch.manual_seed(0)
    layer = make(4, 6, 3, groups=groups, bias=False)
    positions = len(layer.kernel_size)

    def rows():
        """The kernel of each output, by what the layer does to an impulse in each of its group's inputs."""
        impulses = torch.zeros(4, 4, *[1] * positions)
        for i in range(4):
            impulses[i, i] = 1
        return layer(impulses).detach().transpose(0, 1).flatten(1)  # zeros where the input is of another group

    before = rows()
    norms = before.norm(dim=1)
    size = 4 // groups * 3**positions
    torch.testing.assert_close(GroupLasso(1.0)(layer).detach(), math.sqrt(size) * norms.sum())
    blocks = torch.stack([row[row != 0] for row in before])
    wanted = torch.linalg.matrix_norm(blocks, 2) ** 2 / 2
    torch.testing.assert_close(SpectralNorm(1.0, iterations=300)(layer).detach(), wanted, rtol=1e-4, atol=0)
    most = float(norms.sort().values[2:4].mean())
    MaxNorm(most).apply_(layer)
    torch.testing.assert_close(rows().norm(dim=1), norms.clamp(max=most))
    assert torch.equal(rows()[norms <= most], before[norms <= most])
    stepped(layer, UnitNorm())
    torch.testing.assert_close(rows().norm(dim=1), torch.ones(6))
    group, unit = divmod(3, 6 // groups)
    with torch.no_grad():
        layer.weight[group * 4 // groups : (group + 1) * 4 // groups, unit] *= 0.01
    stepped(layer, GroupLasso(0.5))
    assert (rows() == 0).all(1).tolist() == [i == 3 for i in range(6)]


def test_learned_scales_are_told_by_their_role():
    class LayerScale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(8, 1, 1))

    class GRN(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.b = (nn.Parameter(torch.zeros(1, 1, 1, 8)) for _ in range(2))

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix, self.column = nn.Parameter(torch.ones(8, 3)), nn.Parameter(torch.ones(8, 1))

    model = nn.Sequential(
        nn.Conv1d(1, 1, 3), LayerScale(), GRN(), Own(), nn.Linear(5, 1), nn.MultiheadAttention(8, 2, add_bias_kv=True)
    )
    decayed = ["0.weight", "3.matrix", "3.column", "4.weight", "5.in_proj_weight", "5.out_proj.weight"]
    assert list(select(model)) == decayed
    weights, rest = decay_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert [names[id(p)] for p in weights["params"]] == decayed
    assert {"1.gamma", "2.w", "2.b", "5.bias_k", "5.bias_v"} <= {names[id(p)] for p in rest["params"]}


def test_a_registered_kind_says_what_its_parameters_are():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.level = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))

    kind = kinds.Kind(Gated, kinds.Affine, "gated", roles={"mix": "weight", "level": "scale"})
    assert set(select(Gated())) == {"mix", "level"}  # by their dimensions
    kinds.register(kind)
    try:
        assert set(select(Gated())) == {"mix"}
    finally:
        kinds.unregister(kind)
