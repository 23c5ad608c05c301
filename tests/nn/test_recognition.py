"""A norm of another library is known by what it calculates, and ``explain`` counts all there is."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import levelhead as lh


class Llama(nn.Module):
    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.rand(width) + 0.5), eps

    def forward(self, x):
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * wide.to(x.dtype)


class Gemma(Llama):
    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (wide * (1.0 + self.weight.float())).type_as(x)


class ConvNeXt(nn.LayerNorm):
    """Over the channels of (N, C, H, W)."""

    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


class SqueezeBert(nn.LayerNorm):
    """Over the channels of (N, C, L)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 1)).permute(0, 2, 1)


class Either(nn.LayerNorm):
    """As the mix transformer's in segmentation_models_pytorch: over the channels of an image, or the last of tokens."""

    def forward(self, x):
        if x.ndim != 4:
            return super().forward(x)
        tokens = x.view(*x.shape[:2], -1).transpose(1, 2)
        return super().forward(tokens).transpose(1, 2).reshape(x.shape)


class Written(nn.Module):
    """A layer norm by hand, with names and an ε of its own."""

    def __init__(self, width):
        super().__init__()
        self.beta, self.gamma = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * self.gamma + self.beta


class Bare(nn.Module):
    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], eps=1e-5)


class BareNorm(Bare):
    pass


class Unbiased(Llama):
    """Divides by the standard deviation with its ε outside of the root: none of ours."""

    def forward(self, x):
        return self.weight * x / (x.pow(2).mean(-1, keepdim=True).sqrt() + self.variance_epsilon)


class Stopped(Llama):
    """The same values, other gradients."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).detach()


class Narrow(Llama):
    """Gives float32 whatever it takes."""

    def forward(self, x):
        return super().forward(x.float())


@pytest.fixture
def calls(monkeypatch):
    """The names of the operators that were called."""
    seen = []
    for name in ("rms_norm", "layer_norm"):
        original = getattr(lh.ops, name)
        monkeypatch.setattr(lh.ops, name, lambda *a, _f=original, _n=name, **k: (seen.append(_n), _f(*a, **k))[1])
    return seen


CASES = {
    "Llama": (lambda: Llama(6), (4, 6), "rms_norm"),
    "Llama, large ε": (lambda: Llama(6, 1e-2), (2, 3, 6), "rms_norm"),
    "Gemma": (lambda: Gemma(6), (4, 6), "rms_norm, 1 + weight"),
    "ConvNeXt": (lambda: ConvNeXt(6), (2, 6, 4, 4), "layer_norm, dimension 1"),
    "SqueezeBERT": (lambda: SqueezeBert(6), (2, 6, 5), "layer_norm, dimension 1"),
    "written": (lambda: Written(6), (4, 6), "layer_norm"),
    "bare": (BareNorm, (4, 6), "rms_norm"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_recognised_and_stays_what_it_is(case, calls):
    make, shape, formula = CASES[case]
    plain = nn.Sequential(make())
    model = lh.convert(copy.deepcopy(plain))
    assert lh.nn.explain(model) == lh.nn.explain(plain)
    assert lh.nn.explain(model).recognised == {"0": formula}
    assert isinstance(model[0], type(plain[0]))
    assert list(model.state_dict()) == list(plain.state_dict())
    calls.clear()  # those of the trials
    for scale in (1.0, 1e-3):  # with the smaller one, ε counts
        for dtype, digits in ((torch.float32, 1e-5), (torch.float64, 1e-5)):
            a, b = (copy.deepcopy(m).to(dtype) for m in (model, plain))
            x = (torch.randn(shape, dtype=dtype) * scale).requires_grad_()
            ours, theirs = a(x), b(x)
            assert ours.dtype == theirs.dtype
            torch.testing.assert_close(ours, theirs, rtol=digits, atol=digits)
            g = torch.randn(shape, dtype=dtype)
            both = [torch.autograd.grad(y, [x, *m.parameters()], g) for y, m in ((ours, a), (theirs, b))]
            torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4 / scale)  # dx is of 1 / scale
    assert calls.count(formula.split(",")[0]) == 4
    for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(clone[0]) is type(model[0])
        torch.testing.assert_close(clone(x.float()), model(x.float()))
    assert type(lh.nn.unconvert(model)[0]) is type(plain[0])


class Manual(ConvNeXt):
    """The same, calculated where the values lie."""

    def forward(self, x):
        x = x - x.mean(1, keepdim=True)
        x = x * (x.square().mean(1, keepdim=True) + self.eps).rsqrt()
        return x * self.weight[:, None, None] + self.bias[:, None, None]


@pytest.mark.parametrize("make", [ConvNeXt, Manual])
def test_the_memory_layout_of_the_result_is_that_of_the_class(make, calls):
    plain, x = make(6), torch.randn(2, 6, 4, 4)
    model = lh.convert(copy.deepcopy(plain))
    calls.clear()  # those of the trials
    torch.testing.assert_close(model(x), plain(x))
    assert calls == ["layer_norm"]
    assert model(x).stride() == plain(x).stride()


@pytest.mark.parametrize("width", [3, 6])
def test_it_holds_for_the_dimensions_that_were_tried(width, calls):
    plain = Either(width)
    nn.init.uniform_(plain.weight)
    model = lh.convert(copy.deepcopy(plain))
    for shape in ((2, 5, width), (4, width), (2, width, 4, 3)):
        calls.clear()
        x = torch.randn(shape)
        torch.testing.assert_close(model(x), plain(x))
        assert calls == ["layer_norm"] * (len(shape) != 4)


class Scaled(Llama):
    """Takes a function of its own."""

    def __init__(self, width, function):
        super().__init__(width)
        self.function = function

    def forward(self, x):
        return self.function(super().forward(x))


def test_settings_of_any_kind_tell_two_norms_apart():
    plain = nn.Sequential(Scaled(6, nn.Identity().forward), Scaled(6, torch.exp))
    assert lh.nn.explain(plain).recognised == {"0": "rms_norm"}
    model, x = lh.convert(copy.deepcopy(plain)), torch.randn(4, 6)
    torch.testing.assert_close(model(x), plain(x))


@pytest.mark.parametrize("make", [lambda: Llama(6), lambda: Either(6)])
def test_who_listens_does_not_hear_the_trial(make):
    heard = []
    model = nn.Sequential(make())
    model[0].register_forward_hook(lambda module, args, y: heard.append(y))
    lh.convert(model)
    assert heard == []
    model(torch.randn(4, 6))
    assert len(heard) == 1


def test_it_is_tried_where_gradients_are_off():
    with torch.no_grad():
        assert lh.nn.explain(nn.Sequential(Llama(6))).recognised == {"0": "rms_norm"}


@pytest.mark.parametrize("make", [lambda: Unbiased(6), lambda: Stopped(6), lambda: nn.Linear(6, 6)])
def test_what_only_looks_like_one_is_left(make):
    plain = make()
    assert lh.nn.explain(nn.Sequential(plain)).recognised == {}
    assert type(lh.convert(copy.deepcopy(plain))) is type(plain)


def test_types_that_were_not_tried_take_the_way_of_the_class(calls):
    x = torch.randn(4, 6)
    mixed, narrow = lh.convert(Llama(6)), lh.convert(Narrow(6).bfloat16())
    calls.clear()
    assert mixed(x.bfloat16()).dtype == torch.float32
    assert narrow(x.bfloat16()).dtype == torch.float32
    assert not calls
    half = lh.convert(Llama(6).bfloat16())
    calls.clear()
    assert half(x.bfloat16()).dtype == torch.bfloat16
    assert calls == ["rms_norm"]
    assert lh.convert(Llama(6)).to("meta")(x.to("meta")).shape == x.shape  # a device that has no autocast
    traced = torch.fx.symbolic_trace(nn.Sequential(mixed))
    torch.testing.assert_close(traced(x), mixed(x))


def test_the_report_counts():
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), Llama(6), Unbiased(6), Bare(), nn.Dropout())
    model[4].__class__ = type("OddNorm", (Unbiased,), {})
    report = lh.nn.explain(model)
    assert str(report) == (
        "replaced 2 (BatchNorm1d 1, Dropout 1); recognised 1 (rms_norm 1); fused 1; left 1\n"
        "the model: 1 + relu\n"
        "4 left: OddNorm calculates no norm that is known"
    )


def test_a_model_in_which_nothing_is_converted_is_named(caplog):
    lh.convert(nn.Linear(2, 2))
    assert caplog.messages == ["Linear: nothing was converted; print(levelhead.nn.explain(model)) says why"]


def test_what_is_ours_is_shown():
    assert repr(lh.convert(nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3)))).count("lh.") == 2


class Positive(nn.Module):
    def forward(self, x):
        return x.abs() + 0.1


class Whole(nn.Module):
    """A norm and its activation, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.linear, self.bn, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.LayerNorm(3)
        self.scale = nn.Parameter(torch.tensor(-2.0))

    def forward(block, x):
        return block.norm(torch.relu(block.bn(block.linear(x)))) * block.scale


@pytest.mark.parametrize("place", ["", "bn", "norm"])
def test_a_class_that_parametrize_has_made_stays(place):
    def parametrized(model):
        name = "weight" if place else "scale"
        nn.utils.parametrize.register_parametrization(model.get_submodule(place), name, Positive())
        return model

    plain, x = Whole(), torch.randn(4, 3)
    before, after = parametrized(lh.convert(copy.deepcopy(plain))), lh.convert(parametrized(copy.deepcopy(plain)))
    expected = parametrized(plain)(x)
    assert lh.nn.explain(before).fused == {"": "self.bn + relu"}
    assert (
        lh.nn.explain(after).left[place] == "torch.nn.utils.parametrize has made its class; convert the model before it"
    )
    with pytest.raises(
        ValueError, match=r"torch.nn.utils.parametrize has made its class; unconvert the model before it"
    ):
        lh.nn.unconvert(before)
    for model in (before, after):
        for each in (model, lh.convert(copy.deepcopy(model))):
            torch.testing.assert_close(each(x), expected)
        nn.utils.parametrize.remove_parametrizations(model.get_submodule(place), "weight" if place else "scale")
        torch.testing.assert_close(model(x), expected)


def test_a_class_that_is_derived_from_a_fused_one_can_be_pickled():
    model = lh.convert(Whole())
    model.__class__ = type("Derived", (type(model),), {})
    torch.testing.assert_close(pickle.loads(pickle.dumps(model)).state_dict(), model.state_dict())


def test_unconvert_gives_the_classes_back():
    plain = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), Llama(3), nn.Dropout())
    model = lh.nn.unconvert(lh.convert(copy.deepcopy(plain)))
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    torch.testing.assert_close(model.eval()(torch.ones(2, 3)), plain.eval()(torch.ones(2, 3)))
    with pytest.raises(ValueError, match=r"0: torch.nn.BatchNorm1d knows no activation='relu'; take it off first"):
        lh.nn.unconvert(nn.Sequential(lh.nn.BatchNorm1d(3, activation="relu")))
