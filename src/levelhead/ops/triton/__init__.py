"""The GPU kernels, in Triton: whether they are present, and the calls, with the arguments of ``cpu``'s.

``rows`` holds the kernels of sets that fit into one program, ``channels`` those of the others, ``random`` dropout's;
``norms`` and ``dropout`` choose among them and start them, ``launch`` says with how many programs. Triton itself is
imported at the first call that is served. With ``TRITON_INTERPRET=1`` the kernels serve tensors of the CPU, slowly.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from levelhead.ops.spec import Norm

_Maybe = Tensor | None
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


class Plan(NamedTuple):
    """As ``cpu.Plan``, without masks."""

    norm: Norm

    def forward(
        self, x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, *options: Any
    ) -> tuple[Tensor, Tensor]:
        """As ``cpu.Plan.forward``."""
        from levelhead.ops.triton import norms

        return norms.forward(x, weight, bias, residual, self.norm, *options)

    def backward(
        self, dy: Tensor, x: Tensor, weight: _Maybe, bias: _Maybe, residual: _Maybe, stats: Tensor, *options: Any
    ) -> tuple[_Maybe, ...]:
        """As ``cpu.Plan.backward``."""
        from levelhead.ops.triton import norms

        return norms.backward(dy, x, weight, bias, residual, self.norm, stats, *options)


def plan(x: Tensor, norm: Norm) -> Plan | None:
    """As ``cpu.plan``."""
    return Plan(norm) if serves(x) and not norm.masked else None
