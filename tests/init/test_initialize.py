"""Drawn weights: what follows each layer, the deviations, residual branches; gains; the audit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import levelhead as lh
from levelhead.init import SCHEMES, audit, calibrate_, gain, initialize_


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.5 * x)


class Block(nn.Module):
    """A residual block, with functions where modules are usual."""

    def __init__(self, channels, norms=True):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.bn = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels) if norms else nn.Identity()

    def forward(self, x):
        out = F.leaky_relu(self.bn(self.conv1(x)), 0.2)
        out = self.bn2(self.conv2(out))
        return torch.relu(out + x)


class Out(nn.Module):
    """Its modules stand in another order than they run in."""

    def __init__(self):
        super().__init__()
        self.act, self.last, self.first, self.swish = nn.Tanh(), nn.Linear(8, 3), nn.Linear(5, 8), Swish()

    def forward(self, x):
        return self.last(self.swish(nn.functional.dropout(self.first(x), 0.1).reshape(-1, 8)))


def test_gains_are_those_of_integrals():
    assert gain("relu") == pytest.approx(math.sqrt(2), abs=1e-7)
    assert gain("linear") == 1
    assert gain(lambda z: F.leaky_relu(z, 0.2)) == pytest.approx(math.sqrt(2 / 1.04), abs=1e-7)
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    wanted = 1 / math.sqrt((weights * np.tanh(nodes) ** 2).sum() / math.sqrt(2 * math.pi))
    assert gain("tanh") == gain(torch.tanh) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ValueError, match="no activation 'rely'"):
        gain("rely")
    with pytest.raises(ValueError, match="mean square 0"):
        gain(torch.zeros_like)


def test_the_activation_is_the_one_that_really_follows():
    drawn = {d.layer: d for d in initialize_(Out())}
    assert drawn["first"].activation == "Swish"
    assert drawn["first"].gain == pytest.approx(gain(lambda z: z * torch.sigmoid(1.5 * z)))
    assert (drawn["last"].activation, drawn["last"].gain) == ("linear", 1.0)


def test_residual_branches_are_scaled_at_their_last_weight():
    model = nn.Sequential(nn.Conv2d(1, 64, 3), nn.ReLU(), Block(64), Block(64, norms=False))
    drawn = {d.layer: d for d in initialize_(model)}
    assert drawn["2.conv1"].activation == drawn["3.conv1"].activation == "leaky_relu"
    assert drawn["2.conv1"].gain == pytest.approx(math.sqrt(2 / 1.04), abs=1e-7)
    root = 1 / math.sqrt(2)
    torch.testing.assert_close(model[2].bn2.weight.detach(), torch.full((64,), root))
    assert (drawn["2.conv2"].branch, drawn["3.conv2"].branch) == (1.0, pytest.approx(root))
    torch.testing.assert_close(model[2].bn.weight.detach(), torch.ones(64))
    # 36,864 weights: the deviation is known to 0.4 %.
    assert float(model[3].conv2.weight.detach().std()) == pytest.approx(root / math.sqrt(576), rel=0.02)
    assert not any(bool(m.bias.any()) for m in model.modules() if isinstance(m, nn.Conv2d))


def test_the_longer_way_is_the_branch_where_the_shortcut_has_a_layer_too():
    class Down(Block):
        def __init__(self):
            super().__init__(8, norms=False)
            self.short = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return torch.relu(self.short(x) + self.conv2(F.relu(self.bn(self.conv1(x)))))

    drawn = {d.layer: d for d in initialize_(nn.Sequential(Down(), Down()))}
    root = pytest.approx(1 / math.sqrt(2))
    assert {name: d.branch for name, d in drawn.items() if name[0] == "0"} == {
        "0.conv1": 1.0,
        "0.conv2": root,
        "0.short": 1.0,
    }


def test_the_deviations_of_the_formulas():
    n, m, g = 300, 500, math.sqrt(2)
    wanted = {
        "xavier": g * math.sqrt(2 / (n + m)),
        "he": g / math.sqrt(n),
        "lecun": 1 / math.sqrt(n),
        "orthogonal": g / math.sqrt(m),
    }
    for scheme, deviation in wanted.items():
        model = nn.Sequential(nn.Linear(n, m), nn.ReLU())
        initialize_(model, scheme, generator=torch.Generator().manual_seed(0))
        assert float(model[0].weight.detach().std()) == pytest.approx(deviation, rel=0.01)
    w = model[0].weight.detach() / g
    torch.testing.assert_close(w.T @ w, torch.eye(n), rtol=0, atol=1e-5)
    transposed = nn.Sequential(nn.ConvTranspose2d(32, 32, 4, stride=2, bias=False))
    initialize_(transposed)
    out = transposed(torch.randn(4, 32, 20, 20)).detach()[..., 4:-4, 4:-4]
    assert float(out.var()) == pytest.approx(1, rel=0.1)


def test_attention_transformers_and_recurrent_layers():
    layer = nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", batch_first=True)
    drawn = {d.layer: d for d in initialize_(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), "xavier")}
    assert drawn["layers.1.linear1"].gain == pytest.approx(gain("gelu"))
    assert drawn["layers.1.linear2"].branch == drawn["layers.0.self_attn"].branch == 0.5
    attention = nn.MultiheadAttention(256, 4)
    initialize_(attention, "xavier")
    for weight in attention.in_proj_weight.detach().chunk(3):  # not those of one matrix of 768 × 256
        assert float(weight.std()) == pytest.approx(1 / 16, rel=0.02)
    gru = nn.GRU(32, 64)
    initialize_(gru, "he")
    for gate in gru.weight_hh_l0.detach().chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(64), rtol=0, atol=1e-5)
    assert float(gru.weight_ih_l0.detach().std()) == pytest.approx(1 / math.sqrt(32), rel=0.05)
    assert not gru.bias_hh_l0.any()


def test_a_model_that_cannot_be_traced_is_said_to_be_so():
    class Decides(Out):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.warns(UserWarning, match=r"cannot be traced \(TraceError.*order of the modules") as caught:
        drawn = {d.layer: d for d in initialize_(Decides())}
    assert caught[0].filename == __file__
    assert drawn["first"].activation == "Swish"


def test_optional_arguments_have_their_defaults():
    class Masked(Out):
        def forward(self, x, mask=None):
            return super().forward(x if mask is None or mask.all() else x * mask)

    drawn = {d.layer: d for d in initialize_(Masked())}  # a warning, as of what cannot be traced, is an error here
    assert drawn["first"].activation == "Swish"


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="no scheme 'kaiming'; there are xavier, he"):
        initialize_(nn.Linear(2, 2), "kaiming")
    with pytest.raises(ValueError, match="no linear map"):
        initialize_(nn.ReLU())
    with pytest.raises(ValueError, match="'weight' has no shape yet"):
        initialize_(nn.LazyLinear(3))


def deep(layers=20, width=50, activation=nn.ReLU):
    return nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(width, width), activation())])


def test_the_audit_measures_what_numpy_measures():
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), torch.randn(200, 6) + 1
    first, second = audit(model, x).layers
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in model.parameters())
    z1 = x.double().numpy() @ w1.T + b1
    z2 = np.tanh(z1) @ w2.T + b2
    assert (first.name, second.name) == ("0", "2")
    assert first.variance == pytest.approx(z1.var(), rel=1e-5)
    assert first.varying == pytest.approx(z1.var(0).mean() / z1.var(), rel=1e-5)
    assert first.ratio == pytest.approx(z1.var() / (x.double().numpy() ** 2).mean(), rel=1e-5)
    assert second.ratio == pytest.approx(z2.var() / (np.tanh(z1) ** 2).mean(), rel=1e-5)
    assert second.expected == pytest.approx(5 * (w2**2).mean(), rel=1e-5)
    assert second.gain == pytest.approx(z2.var() / (x.double().numpy() ** 2).mean(), rel=1e-5)


def test_the_verdicts():
    x = torch.randn(100, 50)
    model = deep()
    initialize_(model)
    assert audit(model, x).verdict == "the signal keeps its scale through 20 layers."
    for layer in model[::2]:
        layer.weight.data *= 0.5
    assert "the signal fades: from '0' to '38'" in audit(model, x).verdict
    for layer in model[::2]:
        layer.weight.data *= 4
    report = audit(model, x)
    assert "the signal grows" in report.verdict
    assert "a layer; calibrate_(model, batch) makes it 1" in str(report).splitlines()[-1]
    assert len(str(report).splitlines()) == 22
    for p in model.parameters():
        nn.init.constant_(p, 0.01)
    assert audit(model, x).layers[0].duplicated == 49
    assert "and 17 more have units that are copies of another" in audit(model, x).verdict
    nn.init.zeros_(model[0].weight)
    assert "the output of '0', '2', '4', and 17 more does not vary" in audit(model, x).verdict
    shallow = deep(3)
    shallow[0].weight.data[7] = 0
    found = audit(shallow, x)
    assert [layer.constant for layer in found.layers] == [1, 0, 0]
    assert found.verdict.startswith("'0' has units that do not vary")
    with pytest.raises(ValueError, match="'0' is not finite"):
        audit(shallow, x * math.nan)


def squares(model, x):
    found = []
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Conv2d):
            m.register_forward_hook(lambda _, args, out: found.append(float(out.detach().double().var(correction=0))))
    model(x)
    return found


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_calibrated_layers_have_unit_variance(activation):
    model, x = deep(10, activation=activation), torch.randn(200, 50) * 7
    before = [m.weight.detach().clone() for m in model[::2]]
    biases = [m.bias.detach().clone() for m in model[::2]]
    result = calibrate_(model, x)
    assert [r.layer for r in result] == [str(i) for i in range(0, 20, 2)]
    assert squares(model, x) == pytest.approx([1.0] * 10, abs=0.01)
    for layer, weight, bias, record in zip(model[::2], before, biases, result, strict=True):
        torch.testing.assert_close(layer.weight.detach(), weight * record.factor)
        assert torch.equal(layer.bias, bias)
    again = calibrate_(model, x)
    assert [r.factor for r in again] == [1.0] * 10


def test_calibration_of_a_training_convnet_leaves_everything_else():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Dropout(0.5), Block(8), Block(8, norms=False), nn.Flatten(),
                          nn.LazyLinear(3)).train()  # fmt: skip
    x = torch.randn(64, 1, 8, 8) + 2
    model(x)
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    state = torch.get_rng_state()
    assert len(calibrate_(model, x)) == 6
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    model[1].p = 0.0
    assert squares(model, x) == pytest.approx([1.0] * 6, abs=0.01)  # with the batch's statistics, as it trains


@pytest.mark.parametrize("same", [True, False])
def test_calibration_of_attention(same):
    dims = {} if same else {"kdim": 16, "vdim": 24}
    attention = nn.MultiheadAttention(32, 4, batch_first=True, **dims)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, q, k, v):
            return self.attention(q, k, value=v)[0]

    q, k, v = (
        torch.randn(20, 7, 32),
        3 * torch.randn(20, 9, dims.get("kdim", 32)),
        torch.randn(20, 9, dims.get("vdim", 32)),
    )
    model = Model()
    result = {r.layer: r for r in calibrate_(model, (q, k, v))}
    assert list(result) == ["attention.query", "attention.key", "attention.value", "attention.output"]
    assert float(model(q, k, v).detach().var()) == pytest.approx(1, abs=0.01)
    key = attention.in_proj_weight[32:64] if same else attention.k_proj_weight
    assert float((k @ key.T).var().detach()) == pytest.approx(1, abs=0.01)


def test_what_cannot_be_calibrated_is_refused():
    model = deep(2)
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    with pytest.raises(ValueError, match=r"layer '0' does not vary.*initialize_"):
        calibrate_(model, torch.randn(10, 50))
    twice = nn.Linear(4, 4)
    nn.init.normal_(twice.bias, std=5.0)
    with pytest.raises(ValueError, match="after 3 passes"):
        calibrate_(twice, torch.randn(50, 4), passes=3)
    with pytest.raises(ValueError, match="calculated from others"):
        calibrate_(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), torch.randn(5, 3))
    with pytest.raises(ValueError, match="above 0 and finite, got 0"):
        calibrate_(twice, torch.randn(5, 4), variance=0)


def test_a_batch_without_rows_is_named():
    with pytest.raises(ValueError, match="the output of layer '0' is empty; give a batch with rows"):
        calibrate_(deep(2), torch.randn(0, 50))
    with pytest.raises(ValueError, match="the output of layer '0' is empty"):
        audit(deep(2), torch.randn(0, 50))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_orthogonal_weights_of_every_type(dtype):
    layer = nn.Linear(12, 8).to(dtype)
    initialize_(layer, "orthogonal")
    # Half a unit in the last place of entries up to 1, in sums of 12 products.
    most = 12 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        layer.weight.double() @ layer.weight.double().T, torch.eye(8).double(), rtol=0, atol=most
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_weights_has_nothing_to_draw(scheme):
    model = nn.Sequential(nn.Linear(0, 3), nn.Linear(3, 0))
    assert len(initialize_(model, scheme)) == 2


def test_levelheads_own_layers_are_known():
    model = nn.Sequential(
        nn.Linear(5, 8),
        lh.nn.BatchNorm1d(8),
        lh.nn.Dropout(0.1),
        lh.regularizers.DropPath(0.1),
        nn.ELU(),
        nn.Linear(8, 2),
    )
    assert [d.activation for d in initialize_(model)] == ["ELU", "linear"]
