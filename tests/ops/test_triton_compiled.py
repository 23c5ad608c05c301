"""The GPU kernels on a machine without a GPU: they compile for one, and torch.compile sees them.

The interpreter runs Python, so that it does not notice what Triton's compiler refuses, nor what the machine code is
like: here each kernel is compiled for Hopper (sm_90) with the tiles that its sizes get, as PTX and as machine code.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from levelhead.ops import triton

gpu = pytest.importorskip("triton")
if triton.interpreted():
    pytest.skip("the interpreter does not compile", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from levelhead.ops.philox import Noise  # noqa: E402
from levelhead.ops.spec import Norm  # noqa: E402
from levelhead.ops.triton import dropout, launch, norms  # noqa: E402

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float64: "*fp64", torch.int64: "*i64"}
ROWS, BATCH, GROUPS = (Norm(over, number, 1e-5) for over, number in (("row", 1), ("batch", 0), ("group", 32)))


@pytest.fixture
def started(monkeypatch):
    """What would be started: tensors are of the device "meta", which have no memory."""
    calls = []

    def start(kernel, programs, x, *arguments, **options):
        assert programs > 0
        calls.append((kernel, arguments, options))

    monkeypatch.setattr(norms, "start", start)
    monkeypatch.setattr(launch, "start", start)
    with torch.device("meta"):
        yield calls


def compiled(kernel, arguments, options):
    """As Triton specializes a call: multiples of 16 are known as such, 1 and None are constants."""
    signature, constants, attributes = {}, {}, {}
    for i, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        if value is None or (isinstance(value, int) and value == 1):
            signature[name], constants[(i,)] = "constexpr", value
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
            if isinstance(value, torch.Tensor) or value % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
    for name, value in options.items():
        if name != "num_warps":
            signature[name], constants[(kernel.arg_names.index(name),)] = "constexpr", value
    assert len(signature) == len(kernel.arg_names)
    source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, constants, attributes)
    return gpu.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": options["num_warps"]})


def bytes_spilled(machine_code, folder):
    """What does not fit into the registers of a thread, by the disassembler that Triton brings."""
    file = folder / "kernel.cubin"
    file.write_bytes(machine_code)
    program = Path(gpu.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run([program, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", usage).group(1))


def norm(shape, value, parameter, dtype, activation="", residual=False, last=False, center=True):
    """Forward and backward of one norm."""
    x = torch.empty(shape, dtype=dtype)
    x = x.to(memory_format=torch.channels_last) if last else x
    weight, bias = torch.empty(parameter), torch.empty(parameter) if center else None
    beside = torch.empty_like(x) if residual else None
    value = value._replace(activation=activation, center=center)
    y, stats = norms.forward(x, weight, bias, beside, value)
    norms.backward(y, x, weight, bias, beside if activation else None, value, stats)


def rows(length, dtype, **extras):
    return lambda: norm((4096, length), ROWS, (length,), dtype, **extras)


def images(channels, size, dtype, **extras):
    return lambda: norm((64, channels, size, size), BATCH, (channels,), dtype, **extras)


def dropped(dtype):
    x, noise = torch.empty(4096, 768, dtype=dtype), Noise(torch.empty(2, dtype=torch.int64), 6554, 1.25)
    parameters = torch.empty(768), torch.empty(768)
    dropout.dropout(x, x, noise)
    *_, stats = dropout.add_norm(x, x, noise, *parameters, ROWS)
    dropout.add_norm_backward(x, x, x, stats, noise, *parameters, ROWS)


CASES = {  # the call, the kernels it starts, and whether 16 bytes at a time can be read
    "short rows": (rows(8, torch.float32), "forward backward", False),
    "rows": (rows(768, torch.bfloat16, center=False), "forward backward", True),
    "full rows": (rows(8192, torch.float32), "forward backward", True),
    "full rows, fused": (rows(4096, torch.float32, activation="gelu", residual=True), "forward backward", True),
    "long rows": (rows(2**17, torch.bfloat16), "moments merge apply sums backward", True),
    "groups": (
        lambda: norm((64, 64, 3136), GROUPS, (64,), torch.bfloat16),
        "forward sums apply_backward",
        True,
    ),
    "planes": (
        images(64, 56, torch.bfloat16, activation="relu", residual=True),
        "moments merge apply sums apply_backward",
        True,
    ),
    "channels last": (
        images(256, 14, torch.bfloat16, activation="relu", residual=True, last=True),
        "moments merge apply sums apply_backward",
        True,
    ),
    "odd planes": (images(6, 7, torch.float32), "moments merge apply sums apply_backward", False),
    "dropout": (lambda: dropped(torch.bfloat16), "dropout forward backward", True),
}


@pytest.mark.parametrize("name", CASES)
def test_the_kernels_compile_for_a_gpu(name, started, tmp_path, monkeypatch):
    """No value spills out of the registers, and neighbours in memory are read 16 bytes at a time."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    call, kernels, wide = CASES[name]
    call()
    assert [kernel.fn.__name__ for kernel, *_ in started] == kernels.split()
    for kernel, arguments, options in started:
        result = compiled(kernel, arguments, options)
        assert bytes_spilled(result.asm["cubin"], tmp_path) == 0
        if wide and kernel.fn.__name__ != "merge":
            assert ".v4.b32" in result.asm["ptx"]


SEEN = """
from types import SimpleNamespace
import torch, triton as gpu
from torch._dynamo.backends.common import aot_autograd
from triton.backends.compiler import GPUTarget
from levelhead import ops
from levelhead.ops import library, triton

# Tensors of the CPU pass for those of a GPU, whose kernels are traced and never started.
driver = SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 90, 32))
gpu.runtime.driver.set_active(driver)
triton.serves = lambda x: True
library.FORCED = "triton"

def call(x, w):
    y = ops.layer_norm(x, (64,), w, w, activation="relu")
    y = ops.batch_norm(y, None, None, w, training=True, residual=y)
    y = ops.batch_norm(y, w, w * w, w)
    return ops.dropout(y, 0.1)

def compiler(graph, inputs):
    for node in graph.graph.nodes:
        if "levelhead" in str(node.target) or "triton" in str(node.target):
            print(str(node.target).partition("_functional")[0])
    print("end")
    def run(*arguments):  # zeros for what the kernels would have given
        found = [None if node is None else node.meta["val"] for node in list(graph.graph.nodes)[-1].args[0]]
        sizes = [v.node.hint if isinstance(v, torch.SymInt) else v for v in found]
        return [
            torch.zeros([int(n) for n in v.shape], dtype=v.dtype) if isinstance(v, torch.Tensor) else v for v in sizes
        ]
    return run

x, w = torch.randn(128, 64, requires_grad=True), torch.randn(64, requires_grad=True)
backend = aot_autograd(fw_compiler=compiler, bw_compiler=compiler)
torch.compile(call, backend=backend, fullgraph=True, dynamic=DYNAMIC)(x, w).sum().backward()
"""


@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_compile_sees_the_kernels(dynamic):
    """Forward and backward; the operators stay opaque where the sizes are not known yet."""
    program = SEEN.replace("DYNAMIC", str(dynamic))
    result = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    forward, backward, _ = result.stdout.split("end\n")
    if dynamic:
        assert forward.split()[:2] == ["levelhead.normalize.default"] * 2
        assert "triton" not in forward + backward
    else:  # layer norm; moments, merge, apply; apply; dropout
        assert forward.split() == ["triton_kernel_wrapper"] * 6
        assert backward.split() == ["triton_kernel_wrapper"] * 6
