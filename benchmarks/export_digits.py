"""What runtimes return for exported layers: the largest error against float64, at mean 0 and at mean 1e4.

    python benchmarks/export_digits.py

Each layer is converted, exported (a batch norm also folded) and run by ONNX Runtime, OpenVINO (from the ONNX file) and
ncnn (by pnnx, which traces PyTorch's own layers: ``lh.nn.unconvert``), all in float32; the inputs have deviation 1. The
last two are no part of any extra: pip install openvino==2026.4.1 ncnn==1.0.20261020 pnnx==20261020.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

import levelhead as lh

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution, batch norm": (lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)), (1, 8, 32, 32)),
    "the same, folded": (lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)), (1, 8, 32, 32)),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(256)), (1, 64, 256)),
    "RMS norm": (lambda: nn.Sequential(nn.RMSNorm(256, eps=1e-6)), (1, 64, 256)),
    "group norm, opset 20": (lambda: nn.Sequential(nn.GroupNorm(2, 8)), (1, 8, 32, 32)),
    "group norm, opset 21": (lambda: nn.Sequential(nn.GroupNorm(2, 8)), (1, 8, 32, 32)),
    "instance norm": (lambda: nn.Sequential(nn.InstanceNorm2d(8, affine=True)), (1, 8, 32, 32)),
}


def onnxruntime(model: nn.Module, path: Path, x: torch.Tensor) -> np.ndarray:
    """The file in ONNX Runtime."""
    session = importlib.import_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]  # type: ignore[no-any-return]


def openvino(model: nn.Module, path: Path, x: torch.Tensor) -> np.ndarray:
    """The file in OpenVINO."""
    ov = importlib.import_module("openvino")
    compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(x.numpy())[0]  # type: ignore[no-any-return]


def ncnn(model: nn.Module, path: Path, x: torch.Tensor) -> np.ndarray:
    """The module through pnnx in ncnn."""
    runtime, pnnx = importlib.import_module("ncnn"), importlib.import_module("pnnx")
    with contextlib.suppress(SyntaxError):  # of the Python code that pnnx writes, too, and imports
        pnnx.export(lh.nn.unconvert(copy.deepcopy(model)), str(path.with_suffix(".pt")), (x,), fp16=False)
    with runtime.Net() as net:
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        net.load_param(str(path.with_suffix(".ncnn.param")))
        net.load_model(str(path.with_suffix(".ncnn.bin")))
        with net.create_extractor() as extractor:
            extractor.input("in0", runtime.Mat(x[0].numpy()).clone())
            return np.array(extractor.extract("out0")[1])[None]


RUNTIMES = {"onnxruntime": onnxruntime, "openvino": openvino, "ncnn": ncnn}


def main() -> None:
    """Prints the table."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    names = [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]
    heads = ["levelhead", *(f"{name} {version(name)}" for name in names)]
    print(f"torch {torch.__version__}\n\n| layer | mean | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 2)}")
    for name, (make, shape) in LAYERS.items():
        for mean in (0.0, 1e4):
            x = torch.randn(shape) + mean
            model = lh.convert(make())
            model.train()
            for _ in range(100):  # running estimates that fit the input
                model(x)
            model.eval()
            if "folded" in name:
                model = lh.fold(model, x).model
            right = copy.deepcopy(model).double()(x.double()).detach().numpy()
            cells = [float(np.abs(model(x).detach().double().numpy() - right).max())]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                opset = 21 if "21" in name else 20
                torch.onnx.export(model, (x,), path, dynamo=True, opset_version=opset, verbose=False)
                for runtime in names:
                    try:
                        y = RUNTIMES[runtime](model, path, x).reshape(right.shape)
                        cells.append(float("nan") if np.isnan(y).any() else float(np.abs(y - right).max()))
                    except Exception as error:  # what a runtime does not take
                        cells.append(float("inf"))
                        print(f"{name}, {runtime}: {error}"[:200])
            print(f"| {name} | {mean:g} | {' | '.join(f'{cell:.1e}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
