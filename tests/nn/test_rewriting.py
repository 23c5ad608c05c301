"""Code as people write it: decorated, with other names, functions in place of modules; and what its reader sees."""

from __future__ import annotations

import copy
import functools
import inspect
import linecache
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import levelhead as lh
from levelhead import ops
from levelhead.nn import fusion
from levelhead.ops import dropouts


def traced(function):
    """As a decorator that counts."""

    @functools.wraps(function)
    def wrapper(self, *args, **kwargs):
        self.calls = getattr(self, "calls", 0) + 1
        return function(self, *args, **kwargs)

    return wrapper


def opaque(function):
    """A decorator that holds what it decorates in something else."""
    held = [function]

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return held[0](*args, **kwargs)

    return wrapper


def silent(function):
    """A decorator without ``functools.wraps``."""

    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.act = nn.Linear(6, 6), nn.LayerNorm(6), nn.SiLU()
        self.gap, self.p = nn.Identity(), 0.4


class Decorated(Base):
    @traced
    @torch.no_grad()
    def forward(self, x):
        """Its words stay.

        Indented as they are.
        """
        y = self.linear(x)  # a remark
        y = self.norm(
            y,
        )
        return self.act(y)


class Opaque(Base):
    @opaque
    def forward(self, x):
        return self.act(self.norm(self.linear(x)))


class Unnamed(Base):
    @silent
    def forward(self, x):
        return self.act(self.norm(self.linear(x)))


class Other(Base):
    """The first parameter has another name."""

    def forward(this, x):
        y = this.linear(x)
        y = this.norm(y)
        return F.silu(y)


class Gap(Base):
    """An identity between norm and activation."""

    def forward(self, x):
        y = self.norm(self.linear(x))
        y = self.gap(y)
        return self.act(y)


class Twice(Base):
    """A block that its parent holds under two names."""

    def __init__(self):
        super().__init__()
        self.block = Gap()
        self.blocks = nn.ModuleList([self.block])

    def forward(self, x):
        return self.blocks[0](x)


class Functional(Base):
    """Dropout as a function."""

    def forward(self, x):
        h = F.dropout(self.linear(x), p=self.p, training=self.training)
        h = x + h
        h = self.norm(h)
        return h + F.dropout(self.linear(h), self.p, self.training)


@pytest.fixture
def activations(monkeypatch):
    seen = []
    original = ops.layer_norm

    def spy(*args, activation=None, **kwargs):
        seen.append(activation)
        return original(*args, activation=activation, **kwargs)

    monkeypatch.setattr(ops, "layer_norm", spy)
    return seen


@pytest.mark.parametrize(
    "make", [Decorated, Other, Gap, Twice, lambda: nn.Sequential(nn.LayerNorm(6), nn.Identity(), nn.SiLU())]
)
def test_it_is_fused(make, activations):
    plain, x = make(), torch.randn(3, 6)
    model = lh.convert(copy.deepcopy(plain))
    torch.testing.assert_close(model(x), plain(x))
    assert [name for name in activations if name] == ["silu"]
    assert len(lh.nn.explain(model).fused) == 1
    assert vars(model).get("calls") == vars(plain).get("calls")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Opaque, "opaque.<locals>.wrapper does not hold it as it is"),
        (Unnamed, "its methods name none of its norms, or a decorator hides them"),
    ],
)
def test_a_decorator_that_hides_the_method_is_named(kind, said):
    plain, x = kind(), torch.randn(3, 6)
    model = lh.convert(copy.deepcopy(plain))
    torch.testing.assert_close(model(x), plain(x))
    assert said in lh.nn.explain(model).left[""]


def test_dropout_as_a_function(monkeypatch):
    calls = []
    for name in ("summed", "summed_and_normalized"):
        original = getattr(dropouts, name)
        monkeypatch.setattr(dropouts, name, lambda *a, _f=original, _n=name, **k: (calls.append(_n), _f(*a, **k))[1])
    plain = Functional()
    model, x = lh.convert(copy.deepcopy(plain)), torch.randn(4, 6)
    assert lh.nn.explain(plain).fused == {"": "dropout + add + self.norm, dropout + add"}
    model(x)
    assert calls == ["summed_and_normalized", "summed"]
    torch.testing.assert_close(model.eval()(x), plain.eval()(x))
    for m in (model, plain):
        m.train().p = 1.0
    torch.testing.assert_close(model(x), plain(x))  # everything is dropped
    for m in (model, plain):
        m.p = -1.0
        with pytest.raises(ValueError, match="has to be between 0 and 1"):
            m(x)


def test_the_source_that_is_shown_is_what_runs():
    forward = type(lh.convert(Decorated())).forward
    inner = inspect.unwrap(forward)
    text = inspect.getsource(forward)
    assert "y = self.linear(x)  # a remark" in text
    assert "y = levelhead_fusion.defer(self.norm, y)" in text
    assert "return levelhead_fusion.activate(None, self.act, y)" in text
    original = inspect.unwrap(Decorated.forward)
    assert inner.__code__.co_firstlineno == original.__code__.co_firstlineno
    assert len(text.splitlines()) == len(inspect.getsource(Decorated.forward).splitlines())
    assert (inner.__doc__, inner.__qualname__) == (original.__doc__, original.__qualname__)
    linecache.checkcache()
    assert inspect.getsource(forward) == text


def test_a_debugger_stops_at_lines_of_that_source():
    model, seen = lh.convert(Gap()), []

    def trace(frame, event, _):
        if frame.f_code.co_name == "forward" and "Gap.forward" in frame.f_code.co_filename:
            if event == "line":
                seen.append(linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip())
            return trace
        return trace if event == "call" else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        model(torch.randn(2, 6))
    finally:
        sys.settrace(before)
    assert seen == [
        "y = levelhead_fusion.defer(self.norm, self.linear(x))",
        "y = levelhead_fusion.through(self.gap, y)",
        "return levelhead_fusion.activate(None, self.act, y)",
    ]


class Same(nn.Module):
    def forward(self, x):
        return x


class Changes(Base):
    """What is added, or normalized, is changed in place before the value is made use of."""

    def __init__(self):
        super().__init__()
        self.same, self.drop, self.flat, self.relu_ = Same(), nn.Dropout(0.0), nn.Flatten(), nn.ReLU(inplace=True)
        self.chain, self.thin = nn.Sequential(nn.Identity(), nn.LayerNorm(6)), lh.nn.Dropout(0.5)

    def kept(self, x):
        self.cache = self.linear(x)
        return self.cache

    def shift(self):
        for parameter in self.parameters():
            parameter.add_(1)

    def the_input_that_an_identity_gave(self, x):
        y = self.norm(self.gap(x))
        x.mul_(3)
        return F.silu(y)

    def the_input_that_a_module_gave_as_it_is(self, x):
        h = self.same(x)
        y = self.norm(h)
        x.mul_(3)
        return F.silu(y)

    def the_input_that_is_a_view(self, x):
        y = self.norm(self.flat(x))
        x.mul_(3)
        return F.silu(y)

    def the_input_that_dropout_gave_as_it_is(self, x):
        y = self.norm(self.drop(x))
        x.mul_(3)
        return F.silu(y)

    def the_input_that_a_method_keeps(self, x):
        y = self.norm(self.kept(x))
        self.cache.mul_(3)
        return F.silu(y)

    def the_input_of_a_sequence(self, x):
        y = self.chain(x)
        x.mul_(3)
        return F.silu(y)

    def the_input_by_a_module_on_the_right(self, x):
        return F.silu(self.norm(self.same(x)) + self.relu_(x))

    def the_input_of_a_sequence_by_a_module_on_the_right(self, x):
        return F.silu(self.chain(x) + self.relu_(x))

    def the_residual_that_an_identity_gave(self, x):
        y = self.norm(self.linear(x))
        y = y + self.gap(x)
        x.mul_(3)
        return F.silu(y)

    def the_input_of_the_dropout(self, x):
        y = self.thin(self.gap(x))
        x.mul_(3)
        return self.norm(y + x)

    def the_input_of_the_dropout_by_a_module_on_the_right(self, x):
        return self.norm(self.thin(self.same(x)) + self.relu_(x))

    def the_parameters_by_a_method(self, x):
        y = self.norm(self.linear(x))
        self.shift()
        return F.silu(y)

    def the_parameters_in_the_statement_that_uses_it(self, x):
        y = self.norm(self.linear(x))
        return [self.shift(), F.silu(y)][1]

    def the_parameters_by_a_loop(self, x):
        y = self.norm(self.linear(x))
        for parameter in self.parameters():
            parameter.add_(1)
        return F.silu(y)

    def the_residual_before_the_activation(self, x):
        r = x * 1
        y = self.norm(self.linear(x))
        y = y + r
        r.mul_(3)
        return F.silu(y)

    def the_input_in_the_same_statement(self, x):
        x = x * 1
        y = self.norm(x)
        return x.mul_(3) + F.silu(y)

    # fmt: off
    def the_input_on_the_same_line(self, x):
        x = self.linear(x); y = self.norm(x); x.mul_(3); y = F.silu(y)  # noqa: E702
        return y  # noqa: RET504
    # fmt: on

    def the_input_on_the_left_of_the_sum(self, x):
        x = x * 1
        y = self.norm(x)
        return F.silu(x.mul_(3) + y)

    def forward(self, x, method):
        return getattr(self, method)(x)


@pytest.mark.parametrize("method", [name for name in vars(Changes) if name.startswith("the")])
def test_what_is_changed_in_place_is_taken_as_it_was(method):
    plain, x = Changes().double(), torch.randn(4, 6, dtype=torch.float64)
    with torch.no_grad():
        results = []
        for model in (lh.convert(copy.deepcopy(plain)), plain):
            torch.manual_seed(0)
            results.append(model(x.clone(), method))
        torch.testing.assert_close(*results)


class Shortcut(Base):
    """Between a norm and its activation, parts run that may be absent, and the norm's input is a convolution's."""

    def __init__(self, *shortcut):
        super().__init__()
        if shortcut:
            (self.shortcut,) = shortcut

    def forward(self, x):
        y = self.norm(self.linear(x))
        if hasattr(self, "shortcut") and self.shortcut is not None:
            x = self.shortcut(x)
        y += x
        return self.act(y)


@pytest.mark.parametrize("shortcut", [(), (None,), (nn.Linear(6, 6),), (nn.ReLU(inplace=True),)], ids=repr)
def test_what_stands_between_a_norm_and_its_activation_may_be_absent(shortcut):
    plain, x = Shortcut(*shortcut), torch.randn(4, 6)
    with torch.no_grad():
        torch.testing.assert_close(lh.convert(copy.deepcopy(plain))(x.clone()), plain(x.clone()))
    assert lh.nn.explain(plain).fused == {"": "self.norm + add + self.act"}


def test_methods_of_any_length_are_read(tmp_path, monkeypatch):
    """A jump over more than 255 units is written in two, and how long a call is depends on the file's imports."""
    loop = """class Loop{0}(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
    def forward(self, x):
        for _ in range(2):
{1}            x = torch.relu(self.norm(x))
        return x
"""
    text = "".join(loop.format(lines, "            x = x.add(1).sub(1)\n" * lines) for lines in range(30))
    (tmp_path / "loops_of_many_lengths.py").write_text(f"import torch\nfrom torch import nn\n{text}")
    monkeypatch.syspath_prepend(tmp_path)
    import loops_of_many_lengths

    for lines in range(30):
        model = getattr(loops_of_many_lengths, f"Loop{lines}")()
        assert lh.nn.explain(model).fused == {"": "self.norm + relu"}


def test_hooks_and_exchanged_modules_at_an_identity():
    plain, x, heard = Gap(), torch.randn(3, 6), []
    model = lh.convert(copy.deepcopy(plain))
    with model.gap.register_forward_hook(lambda *a: heard.append(a[2])):
        torch.testing.assert_close(model(x), plain(x))
    torch.testing.assert_close(heard, [plain.norm(plain.linear(x))])
    for m in (model, plain):
        m.gap = nn.Tanh()
    torch.testing.assert_close(model(x), plain(x))
    assert fusion.through(nn.Tanh(), x).equal(x.tanh())
