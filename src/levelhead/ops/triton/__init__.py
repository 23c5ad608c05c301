"""The GPU kernels, in Triton: whether they are present, and the calls, with the arguments of ``cpu``'s.

``rows`` holds the kernels of sets that fit into one program, ``channels`` those of the others, ``random`` dropout's;
``norms`` and ``dropout`` choose among them and start them, ``launch`` says with how many programs. Triton itself is
imported at the first call that is served. With ``TRITON_INTERPRET=1`` the kernels serve tensors of the CPU, slowly.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from levelhead.ops.reference import Dims

_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def absent() -> str:
    """Why the kernels cannot run here; "" where they can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; install PyTorch's build for CUDA, which brings it"
    if not interpreted() and not torch.cuda.is_available():
        return "PyTorch sees no GPU; use a CUDA build of PyTorch on a machine with one"
    return ""


def serves(x: Tensor) -> bool:
    """Whether ``x`` is where the kernels run, of a type that they know, and has any elements."""
    device = "cpu" if interpreted() else "cuda"
    return x.device.type == device and x.dtype in _TYPES and x.numel() > 0 and not absent()


def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    dims: Dims,
    eps: float,
    activation: str,
    center: bool,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """As ``cpu.normalize``: the result, the mean and the biased variance (float64); None where it cannot be served."""
    if not serves(x):
        return None
    from levelhead.ops.triton import norms

    return norms.normalize(x, weight, bias, residual, dims, eps, activation, center, overwrite)


def standardize(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
    overwrite: bool = False,
) -> Tensor | None:
    """As ``cpu.standardize``: the result with given statistics, one a channel."""
    if not serves(x):
        return None
    from levelhead.ops.triton import norms

    return norms.standardize(x, mean, var, weight, bias, residual, eps, activation, overwrite)


def normalize_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
    dims: Dims | None,
    center: bool,
    from_output: bool = False,
) -> tuple[Tensor | None, ...] | None:
    """As ``cpu.normalize_backward``: the gradients of x, weight, bias and residual, None for what was None."""
    if not serves(x):
        return None
    from levelhead.ops.triton import norms

    return norms.normalize_backward(
        dy, x, mean, var, weight, bias, residual, eps, activation, dims, center, from_output
    )
