"""torch.compile, torch.export and ONNX of a model with every normalizer, in eval mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from levelhead import nn

SMALL, LARGE = 2, 600


def model():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4, activation="relu"),
        nn.GroupNorm(2, 4, activation="gelu"),
        nn.InstanceNorm2d(4, track_running_stats=True, activation="silu"),
        nn.LayerNorm([4, 8, 8], activation="tanh"),
        nn.RMSNorm(8),
    )
    network(torch.randn(16, 3, 8, 8) + 1)  # running estimates that are not their defaults
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [SMALL, LARGE])
def test_compile_fullgraph(batch):
    network, x = model(), torch.randn(batch, 3, 8, 8)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(network, fullgraph=True)(x), network(x))


@pytest.mark.parametrize("batch", [SMALL, LARGE])
def test_an_exported_program_needs_no_levelhead(batch):
    network, x = model(), torch.randn(batch, 3, 8, 8)
    program = torch.export.export(network, (x,))
    torch.testing.assert_close(program.module()(x), network(x))
    assert {str(node.target).split(".")[0] for node in program.graph.nodes if node.op == "call_function"} == {"aten"}


def test_an_exported_program_takes_batches_of_any_size():
    network = model()
    free = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(network, (torch.randn(4, 3, 8, 8),), dynamic_shapes=(free,)).module()
    for batch in (1, SMALL, LARGE, 2000):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(program(x), network(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")  # PyTorch's own call
@pytest.mark.parametrize("batch", [SMALL, LARGE])
def test_onnx_in_onnxruntime(tmp_path, batch):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, x = model(), torch.randn(batch, 3, 8, 8)
    path = tmp_path / "model.onnx"
    torch.onnx.export(network, (x,), path, dynamo=True)
    session = onnxruntime.InferenceSession(path)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(y, network(x).detach().numpy(), rtol=1e-4, atol=1e-5)  # two float32 programs
