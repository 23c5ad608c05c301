"""How the operators behave in PyTorch's machinery: opcheck, torch.func, torch.compile, dispatch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

import levelhead as lh
from levelhead import ops
from levelhead.ops import cpu, library, triton
from levelhead.ops.spec import Norm


def norm_sum(x):
    return ops.batch_norm(x, None, None, training=True, activation="tanh").pow(3).sum()


@pytest.mark.parametrize("activation", ["", "relu"])
@pytest.mark.parametrize("center", [True, False])
def test_opcheck_normalize(activation, center):
    x = torch.randn(4, 3, 5, requires_grad=True)
    residual = torch.randn(4, 3, 5, requires_grad=True)
    for over, number, features in (("batch", 0, 3), ("group", 3, 3), ("row", 1, 5)):
        weight, bias = (torch.randn(features, requires_grad=True) for _ in range(2))
        for optional in ((None, None, None), (weight, bias, residual)):
            args = (x, *optional, *Norm(over, number, 1e-5, activation, center))
            torch.library.opcheck(torch.ops.levelhead.normalize.default, args)


def test_opcheck_standardize_and_backward():
    x = torch.randn(4, 3, 5, requires_grad=True)
    stats, weight = torch.rand(2, 3), torch.randn(3, requires_grad=True)
    given = Norm("given", 0, 1e-5, "gelu")
    torch.library.opcheck(torch.ops.levelhead.standardize.default, (x, stats, weight, None, None, *given))
    args = (x.detach(), x.detach(), stats, weight.detach(), None, None, *given._replace(over="batch"))
    torch.library.opcheck(torch.ops.levelhead.normalize_backward.default, args)


def test_vmap_and_func_grad(backend):
    xs = torch.randn(6, 4, 3, 5, dtype=torch.float64)
    expected = [torch.autograd.grad(norm_sum(x), x)[0] for x in xs.clone().requires_grad_()]
    torch.testing.assert_close(torch.func.grad(norm_sum)(xs[0]), expected[0])
    torch.testing.assert_close(torch.vmap(torch.func.grad(norm_sum))(xs), torch.stack(expected))


# torch.func.jvp scripts PyTorch's own decompositions at its first use.
def test_forward_mode_and_hessian(backend):
    x = torch.randn(3, 2, 2, dtype=torch.float64)
    tangent = torch.randn_like(x)
    _, jvp = torch.func.jvp(norm_sum, (x,), (tangent,))
    torch.testing.assert_close(jvp, (torch.func.grad(norm_sum)(x) * tangent).sum())
    hessian = torch.func.hessian(norm_sum)(x).reshape(12, 12)
    torch.testing.assert_close(hessian, hessian.T)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"])
def test_compile_without_a_graph_break(backend, name):
    def call(x, weight, running):
        if name == "batch_norm":
            y = ops.batch_norm(x, *running, weight, training=True, activation="relu", residual=x)
        elif name == "instance_norm":
            y = ops.instance_norm(x, *running, weight, activation="relu", residual=x)
        elif name == "group_norm":
            y = ops.group_norm(x, 2, weight, activation="relu", residual=x)
        else:
            y = getattr(ops, name)(x, (4,), weight, activation="relu", residual=x)
        return (y * y).sum()

    def grads(function):
        x, weight = torch.randn(3, 4, 4, requires_grad=True), torch.randn(4, requires_grad=True)
        running = torch.zeros(4), torch.ones(4)
        torch.manual_seed(1)
        with torch.no_grad():
            x.normal_()
            weight.normal_()
        return *torch.autograd.grad(function(x, weight, running), (x, weight)), *running

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(grads(compiled), grads(call))


@pytest.mark.parametrize("size", [1, 2**16, 2**20])
def test_the_dispatch_does_not_look_at_the_size(size):
    assert library.backend_for(torch.empty(size)) == ("cpu" if cpu.PRESENT else "reference")


def test_backends_says_what_is_absent():
    assert ops.backends()["reference"] == "present"
    assert set(ops.backends()) == {"reference", "cpu", "triton"}


@pytest.mark.parametrize(
    ("name", "message"),
    [("fastest", "LEVELHEAD_BACKEND='fastest' is not a backend; choose one of"), ("triton", "cannot be served")],
)
def test_a_forced_backend_that_cannot_serve_is_refused(name, message):
    environment = {**os.environ, "LEVELHEAD_BACKEND": name}
    result = subprocess.run(
        [sys.executable, "-c", "import levelhead.ops"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert message in result.stderr


def test_the_environment_forces_triton():
    pytest.importorskip("triton")
    program = (
        "import sys, torch; from levelhead import ops; from levelhead.ops import library\n"
        "print(ops.backends()['triton'], library.backend_for(torch.empty(1)), 'triton' in sys.modules)\n"
        "print(float(ops.layer_norm(torch.tensor([[-1.0, 1.0]]), (2,))[0, 1]), 'triton' in sys.modules)"
    )
    environment = {**os.environ, "LEVELHEAD_BACKEND": "triton", "TRITON_INTERPRET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    (present, backend, imported), (value, used) = (line.split() for line in result.stdout.splitlines())
    assert (present, backend, imported, used) == ("present", "triton", "False", "True")
    assert abs(float(value) - 1) < 1e-5


def test_the_dispatch_on_a_gpu(monkeypatch):
    class OnGPU:
        device, is_cuda = torch.device("cuda"), True

    monkeypatch.setattr(library, "FORCED", None)
    monkeypatch.setattr(triton, "absent", lambda: "")
    assert library.backend_for(OnGPU()) == "triton"
    assert library.uses_triton(OnGPU())
    monkeypatch.setattr(triton, "absent", lambda: "there is none")
    with pytest.warns(RuntimeWarning, match="there is none"):
        assert library.backend_for(OnGPU()) == "reference"
    library._say_once.cache_clear()


def test_the_environment_forces_the_reference():
    program = "import torch; from levelhead.ops import cpu, library; print(library.backend_for(torch.empty(1)))"
    environment = {**os.environ, "LEVELHEAD_BACKEND": "reference"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "reference"


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_the_default_device_is_for_the_users_tensors(device):
    x, y = torch.randn(6, 4, 5, requires_grad=True), torch.randn(6, 4, 5)
    expected = [F.layer_norm(x, (5,)), F.batch_norm(x, None, None, training=True), *torch.var_mean(x, 0, correction=0)]
    with torch.device(device):
        found = [ops.layer_norm(x, (5,)), ops.batch_norm(x, None, None, training=True)]
        moments = lh.Moments.of(x.detach(), 0)
    torch.testing.assert_close([*found, moments.var().to(x.dtype), moments.mean.to(x.dtype)], expected)
    found[0].backward(y)
    (gradient,) = torch.autograd.grad(expected[0], x, y)
    torch.testing.assert_close(x.grad, gradient)


def test_saved_tensors_may_come_back_in_other_strides():
    """As from a hook that copies them to disk or to another device and back."""
    x = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last).requires_grad_()
    y = torch.randn(3, 4, 5, 6)
    (expected,) = torch.autograd.grad(F.batch_norm(x, None, None, training=True), x, y)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.tolist(), torch.tensor):
        found = ops.batch_norm(x, None, None, training=True)
    (gradient,) = torch.autograd.grad(found, x, y)
    torch.testing.assert_close(gradient, expected)
