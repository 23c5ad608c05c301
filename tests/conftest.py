"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys

import pytest
import torch

from levelhead.ops import cpu, library, triton

if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are the workers'; threads of each besides only wait for each other
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that tests start

compiled = pytest.mark.skipif(not cpu.PRESENT, reason=f"no compiled kernels: {cpu.ABSENT}")
CPU = pytest.param("cpu", marks=compiled)
#: With TRITON_INTERPRET=1 the tests that go through the backends go through the GPU kernels alone, and with
#: LEVELHEAD_TEST_DEVICE=cuda on a GPU besides.
DEVICE = os.environ.get("LEVELHEAD_TEST_DEVICE", "cpu")
ON_KERNELS = triton.interpreted() or DEVICE != "cpu"
FORCED = ["triton"] if ON_KERNELS else ["reference", CPU]
BACKENDS = FORCED if ON_KERNELS else ["default", *FORCED]


if triton.interpreted():
    import rounding_interpreter  # noqa: F401  Triton's cuts bfloat16 off where a GPU rounds


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node):
    """pytest's own clocks stop when a test fails; its teardown has a minute."""
    if isinstance(node, pytest.Item):
        faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.device(DEVICE) if DEVICE != "cpu" else contextlib.nullcontext():
        yield


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """Every test that takes it runs by the table of dispatch, and with the reference and the kernels forced."""
    monkeypatch.setattr(library, "FORCED", None if request.param == "default" else request.param)
    return request.param


@pytest.fixture(params=FORCED)
def forced(request, monkeypatch):
    """Every test that takes it runs with the reference forced and with the compiled kernels forced."""
    monkeypatch.setattr(library, "FORCED", request.param)
    return request.param


@pytest.fixture
def reference(monkeypatch):
    """Forces the reference."""
    monkeypatch.setattr(library, "FORCED", "reference")
