"""``benchmarks/gpu.py``: without a GPU it says so, and all that is no GPU's works on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def run(*options):
    return subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    result = run()
    assert result.returncode == 2
    assert result.stderr.startswith("PyTorch sees no GPU: nothing was measured.")
    assert not result.stdout


@pytest.mark.slow
def test_every_part_runs_on_the_cpu():
    result = run("--device", "cpu", "--quick")
    assert result.returncode == 0, result.stderr
    assert "not a measurement of a GPU" in result.stdout
    for row in ("layer", "rms", "batch+add+relu", "dropout_add_layer_norm", "ResNet-50", "GPT-2", "inplace"):
        assert f"\n{row}" in result.stdout


def test_bytes_and_checks(monkeypatch):
    """The floor counts what must move, and a wrong result or mask ends the program."""
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    import gpu

    case = gpu.row_case("layer", 16, 256, torch.bfloat16)
    assert case.bytes == 16 * 256 * 2
    assert gpu.batch_case(4, 5, 2, torch.float32, False, True).moves == (4, 12)
    gpu.check(case, "cpu")
    wrong = dict(case.contenders, levelhead=lambda x, w, b: case.contenders["eager"](x, w, b) * 1.1)
    with pytest.raises(SystemExit, match="result off by"):
        gpu.check(gpu.dataclasses.replace(case, contenders=wrong), "cpu")
    dropout, _ = gpu.dropout_cases(16, 64, torch.float32)
    gpu.check(dropout, "cpu")
    masks = dict(dropout.contenders, levelhead=dropout.contenders["eager"])
    draws = iter((1, 2))
    monkeypatch.setattr(torch, "manual_seed", lambda _: torch.random.default_generator.manual_seed(next(draws)))
    with pytest.raises(SystemExit, match="the mask is not the CPU's"):
        gpu.check(gpu.dataclasses.replace(dropout, contenders=masks), "cpu")
