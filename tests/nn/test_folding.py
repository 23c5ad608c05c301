"""A folded model gives what the model gave; what would not is left, with the reason."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import levelhead as lh


def ready(model):
    """Parameters and statistics that are all at work, float64, in training as a model is left by it."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return model.double()


def check(model, x, folded, left=()):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = lh.fold(model, x)
    assert found.folded == folded
    assert set(found.left) == set(left)
    inputs = x if isinstance(x, tuple) else (x,)
    twin = copy.deepcopy(model).eval()
    expected, y = twin(*inputs).detach(), found.model(*inputs).detach()
    # A dozen sums of products of numbers of about 1, each rounded at 1e-16
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert found.difference == float((y - expected).abs().max())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "the model is unchanged"
    for name in folded:
        assert not isinstance(found.model.get_submodule(name), nn.modules.batchnorm._NormBase | lh.Standardizer)
    assert not any(module.training for module in found.model.modules())
    return found


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


PLAIN = {"momentum": 0.3, "eps": 1e-3}


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Linear(4, 6), nn.BatchNorm1d(6, **PLAIN), (5, 4)),
        (nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6, affine=False), (5, 4)),
        (nn.Conv1d(4, 6, 3, padding=1), nn.BatchNorm1d(6), (2, 4, 7)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=2, bias=False), nn.BatchNorm2d(6), (2, 4, 7, 8)),
        (nn.Conv2d(4, 6, 3, groups=2, padding="same"), nn.SyncBatchNorm(6), (2, 4, 7, 8)),
        (nn.Conv3d(4, 6, 2, dilation=2), lh.nn.BatchNorm3d(6), (2, 4, 5, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), nn.BatchNorm2d(6), (2, 4, 5, 6)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2, bias=False), nn.BatchNorm1d(6), (2, 4, 7)),
        (nn.Conv2d(4, 6, 1), nn.InstanceNorm2d(6, affine=True, track_running_stats=True), (2, 4, 5, 5)),
    ],
)
def test_into_the_layer_before(layer, norm, shape):
    check(ready(nn.Sequential(layer, norm, nn.ReLU())), double(*shape), {"1": "0"})
    check(ready(nn.Sequential(layer, nn.Dropout(), norm)), double(*shape), {"2": "0"})


@pytest.mark.parametrize(
    ("norm", "layer", "shape"),
    [
        (nn.BatchNorm1d(4), nn.Linear(4, 3, bias=False), (5, 4)),
        (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2), (2, 4, 7, 8)),
        (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1, bias=False), (2, 4, 7, 8)),
        (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 7, 8)),
        (nn.BatchNorm1d(4), nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), (2, 4, 7)),
        (nn.BatchNorm1d(4), nn.Conv1d(4, 6, 3, padding="valid"), (2, 4, 7)),
    ],
)
def test_into_the_layer_behind(norm, layer, shape):
    check(ready(nn.Sequential(norm, nn.Identity(), layer)), double(*shape), {"0": "2"})


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 3, padding=(0, 1)),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.ConvTranspose2d(4, 6, 3),
        nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
    ],
)
def test_a_shift_does_not_go_past_padding_but_a_scale_does(layer):
    model, x = ready(nn.Sequential(nn.BatchNorm2d(4), layer)), double(2, 4, 5, 5)
    found = check(model, x, {}, ["0"])
    assert "shifts" in found.left["0"]
    model[0].running_mean.zero_()
    nn.init.zeros_(model[0].bias)
    check(model, x, {"0": "1"})


def test_several_in_a_row_and_through_a_flatten():
    parts = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)]
    model = ready(nn.Sequential(*parts, nn.Flatten(), nn.Linear(36, 3), nn.BatchNorm1d(3)))
    check(model, double(2, 2, 5, 5), {"1": "0", "2": "0", "4": "6", "7": "6"})


@pytest.mark.parametrize("whiten", [None, "pca", "zca"])
def test_a_standardizer(whiten):
    x = double(50, 3) @ double(3, 3) + 5
    model = nn.Sequential(lh.Standardizer(whiten=whiten).fit(x), nn.Linear(3, 2)).double()
    found = check(model, x, {"0": "1"})
    with pytest.raises(ValueError, match="folded for inputs of 2 dimensions, got 3"):
        found.model(double(2, 3, 3))
    images = x[:48].reshape(4, 3, 4, 3).transpose(1, 3)
    fitted = lh.Standardizer(whiten=whiten).fit(images)
    check(nn.Sequential(fitted, nn.Conv2d(3, 4, 2)).double(), images, {"0": "1"})
    check(nn.Sequential(fitted, nn.Conv2d(3, 4, 3, padding=1)).double(), images, {}, ["0"])
    flat = nn.Sequential(fitted, nn.Flatten(), nn.Linear(images[0].numel(), 2)).double()
    check(flat, images, {"0": "2"})
    last = nn.Sequential(lh.Standardizer(-1, whiten=whiten).fit(x), nn.Linear(3, 2)).double()
    check(last, x.reshape(5, 10, 3), {"0": "1"})
    model[0] = lh.Standardizer()
    assert lh.fold(model).left == {"0": "it has seen no data"}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)

    def forward(self, x, scale=None):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + x) if scale is None else out * scale


@pytest.mark.parametrize("converted", [False, True])
def test_a_residual_network(converted):
    model = ready(nn.Sequential(Block(), Block()))
    if converted:
        lh.convert(model)
    names = {f"{i}.bn{k}": f"{i}.conv{k}" for i in (0, 1) for k in (1, 2)}
    check(model, double(2, 3, 6, 6), names)


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.linear, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        x = self.stem(x)
        return self.norm(self.linear(x)) if x.sum() > 0 else x


def test_the_parts_of_what_cannot_be_traced():
    found = check(ready(Untraceable()), double(5, 3), {"stem.1": "stem.0"}, ["norm"])
    assert "the code of the model cannot be traced" in found.left["norm"]


def test_what_a_layer_of_ours_does_behind_the_map():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), lh.nn.BatchNorm2d(3, activation="silu")

        def forward(self, x):
            return self.norm(self.conv(x), x)

    found = check(ready(Net()), double(2, 3, 4, 4), {"norm": "conv"})
    assert "activation='silu'" in repr(found.model)
    behind = ready(nn.Sequential(lh.nn.BatchNorm1d(3, activation="relu"), nn.Linear(3, 2)))
    assert "activation or a residual" in check(behind, double(5, 3), {}, ["0"]).left["0"]


class TwoUsers(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.linear, self.norm = kind, nn.Linear(3, 3), nn.BatchNorm1d(3)
        if kind == "shared":
            self.other = nn.Linear(3, 3)
            self.other.weight = self.linear.weight
        elif kind == "hooked":
            self.linear.register_forward_hook(lambda module, args, y: y * 2)
        elif kind == "parametrized":
            nn.utils.parametrizations.weight_norm(self.linear)

    def forward(self, x):
        h = self.linear(x)
        if self.kind == "called twice":
            return self.norm(h) + self.norm(self.linear(h))
        return self.norm(h) + h if self.kind == "used elsewhere" else self.norm(h)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("called twice", "used more than once"),
        ("used elsewhere", "what it normalizes is used elsewhere"),
        ("shared", "parameters are shared"),
        ("hooked", "it is hooked"),
        ("parametrized", "linear, before it: its parameters are made by something else"),
    ],
)
def test_what_would_not_be_exact_is_left(kind, reason):
    assert reason in check(ready(TwoUsers(kind)), double(5, 3), {}, ["norm"]).left["norm"]


class Rectified(nn.BatchNorm2d):
    def forward(self, x):
        return F.relu(super().forward(x))


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d."""

    def __init__(self, channels, act):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), act

    def forward(self, x):
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return self.act(self.drop(x))


class Doubled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


class OwnConv(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).abs()


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("norm", [Rectified(4), NormAct(4, nn.SiLU()), NormAct(4, nn.Mish(inplace=True))])
def test_a_norm_with_an_activation_of_its_own_is_taken_apart_where_a_trial_shows_it(norm, given):
    model, x = ready(nn.Sequential(nn.Conv2d(3, 4, 3), norm)), double(2, 3, 6, 6)
    if given:
        check(model, x, {"1": "0"})
    torch.testing.assert_close(lh.fold(model).model(x), model.eval()(x), rtol=1e-12, atol=1e-12)


def test_a_class_is_what_its_forward_is():
    x = double(2, 3, 6, 6)
    found = check(ready(nn.Sequential(nn.Conv2d(3, 4, 3), Doubled(4))), x, {}, ["1"])
    assert "the forward of its class Doubled does something else" in found.left["1"]
    assert (
        "no linear or convolution"
        in check(ready(nn.Sequential(OwnConv(3, 4, 3), nn.BatchNorm2d(4))), x, {}, "1").left["1"]
    )
    before = ready(nn.Sequential(NormAct(3, nn.ReLU()), nn.Conv2d(3, 4, 3)))
    assert "behind it comes" in check(before, x, {}, ["0"]).left["0"]
    made = ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    nn.utils.parametrize.register_parametrization(made[1], "weight", nn.Softplus())
    assert "made by something else" in check(made, x, {}, ["1"]).left["1"]


class Reader(nn.Module):
    """A linear layer, its norm, and code that reads one of them in another place, too."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.enc, self.bn = kind, nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        h = self.bn(self.enc(x))
        match self.kind:
            case "tied":
                return F.linear(F.relu(h), self.enc.weight.t())
            case "bias":
                return h + self.enc.bias
            case "penalty":
                return h + sum(p.square().sum() for p in self.parameters())
            case "norm":
                return h * self.bn.weight
            case "estimate":
                return h - self.bn.running_mean
            case "branch":
                return h if self.enc.weight.sum() > 100 else -h
        return h


class Encoder(Reader):
    def forward(self, x):
        return self.bn(self.enc(x))

    def encode(self, x):
        return self.enc(x)


@pytest.mark.parametrize("kind", ["tied", "bias", "penalty", "norm", "estimate", "method", "branch"])
def test_a_layer_that_other_code_reads_is_left(kind):
    model, x = ready(Encoder(kind) if kind == "method" else Reader(kind)), double(5, 3)
    found = check(model, x, {}, ["bn"])
    assert ("encode" if kind == "method" else "trace" if kind == "branch" else "read elsewhere") in found.left["bn"]
    assert lh.fold(model).left.keys() == {"bn"}
    assert torch.equal(found.model.enc(x), model.enc(x))


class Standardized(nn.Conv2d):
    """Another weight than the one it holds, by a method that ``forward`` calls."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight / weight.std((1, 2, 3), keepdim=True), bias)


def test_what_forward_calls_is_part_of_what_a_class_is():
    model = ready(nn.Sequential(Standardized(3, 4, 3), nn.BatchNorm2d(4)))
    for found in (lh.fold(model), lh.fold(model, double(2, 3, 5, 5))):
        assert "0, before it: its class Standardized calculates something of its own" in found.left["1"]


class Twofold(nn.InstanceNorm2d):
    def _apply_instance_norm(self, x):
        return 2 * super()._apply_instance_norm(x)


class Unchecked(nn.BatchNorm1d):
    def _check_input_dim(self, x):
        pass


@pytest.mark.parametrize(("plain", "replaced"), [(Twofold(4), False), (Unchecked(4), True)])
def test_what_forward_calls_is_called_or_the_class_is_left(plain, replaced):
    model, x = lh.convert(copy.deepcopy(plain)), torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(model(x), plain(x))
    assert (type(model) is not type(plain)) == replaced


class Stem(nn.Conv2d):
    """A class of any name."""


class Opaque(nn.Module):
    """Cannot be traced, and reads the weight of a part by a way that its code does not name."""

    def __init__(self):
        super().__init__()
        self.part, self.other = (nn.Sequential(Stem(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(2))

    def forward(self, x):
        y = self.other(self.part(x))
        return y + (next(iter(vars(self.part[0])["_" + "parameters"].values()))[:1] if x.sum() != 0 else 0)


def test_it_verifies_itself():
    model, x = ready(Opaque()), double(3, 3, 2, 2)
    for found in (lh.fold(model, x), lh.fold(model)):
        assert found.folded == {"other.1": "other.0"}
        assert "folded, it would change an output by" in found.left["part.1"]
        torch.testing.assert_close(found.model(x), model.eval()(x), rtol=1e-12, atol=1e-12)


def test_who_listens_with_a_hook_does_not_hear_of_the_trial():
    model, heard = ready(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU())), []
    for module in (model, model[2]):
        module.register_forward_hook(lambda *_: heard.append("after"))
        module.register_forward_pre_hook(lambda *_: heard.append("before"))
    for inputs in (None, double(3, 3)):
        found = lh.fold(model, inputs)
        assert found.folded == {"1": "0"}
        assert not heard
    found.model(double(3, 3))
    assert heard == ["before", "before", "after", "after"]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_tensors_that_are_no_plain_ones():
    class Quantized(torch.Tensor):
        def __deepcopy__(self, memo):
            return self.clone().as_subclass(Quantized)

    model = ready(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    model[0].weight = nn.Parameter(model[0].weight.data.as_subclass(Quantized))
    assert "no plain tensors, but Quantized" in lh.fold(model).left["1"]
    old = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3))
    old(torch.randn(4, 3))
    with pytest.raises(ValueError, match=r"Sequential cannot be copied .*remove_weight_norm"):
        lh.fold(old)


def test_dimensions_that_only_look_alike():
    for layers in ((nn.Linear(4, 4), nn.BatchNorm1d(4)), (nn.BatchNorm1d(4), nn.Linear(4, 4))):
        folded = lh.fold(ready(nn.Sequential(*layers))).model  # of (N, 4, 4) it would be another dimension
        with pytest.raises(ValueError, match="folded for inputs of 2 dimensions, got 3"):
            folded(double(2, 4, 4))
    check(ready(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(5))), double(2, 5, 4), {}, ["1"])


def test_frozen_and_evaluated_models_fold_too():
    check(lh.freeze_norm(ready(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))), double(5, 4), {"1": "0"})


def test_float32_to_its_rounding():
    model = ready(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    )
    found = lh.fold(model.float(), torch.randn(2, 3, 8, 8))
    assert 0 < found.difference < 1e-4  # 27 and 72 products of numbers of a few units: a few dozen roundings of 1e-7
    assert "1 folded into 0" in str(found)
    assert "largest difference" in str(found)


def test_bad_input():
    with pytest.raises(ValueError, match="no batch norm and no Standardizer to fold"):
        lh.fold(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="takes a torch\\.nn\\.Module, got list"):
        lh.fold([])
    untracked = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    assert lh.fold(untracked).left == {"1": "it keeps no running statistics"}
    assert lh.fold(nn.BatchNorm1d(2)).left == {"": "no call of it was found"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")  # PyTorch's own call
def test_exports(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from safetensors.torch import load_file, save_file

    x = torch.randn(50, 3) * 3 + 5
    model = nn.Sequential(lh.Standardizer().fit(x), nn.Linear(3, 4), lh.nn.BatchNorm1d(4, activation="relu"))
    model(x)
    found = lh.fold(model, x)
    y = found.model(x).detach()
    program = torch.export.export(found.model, (x,))
    names = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert {str(name) for name in names} == {"aten.linear.default", "aten.relu.default"}
    torch.testing.assert_close(program.module()(x), y)
    torch.onnx.export(found.model, (x,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(got, y, rtol=1e-5, atol=1e-5)
    save_file(found.model.state_dict(), tmp_path / "model.safetensors")
    other = lh.fold(copy.deepcopy(model)).model
    nn.init.zeros_(other[1].weight)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(x), y)
