"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os

import pytest
import torch

from levelhead.ops import cpu, library

if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are the workers'; threads of each besides only wait for each other
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that tests start

compiled = pytest.mark.skipif(not cpu.PRESENT, reason=f"no compiled kernels: {cpu.ABSENT}")
CPU = pytest.param("cpu", marks=compiled)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["default", "reference", CPU])
def backend(request, monkeypatch):
    """Every test that takes it runs by the table of dispatch, and with the reference and the kernels forced."""
    monkeypatch.setattr(library, "FORCED", None if request.param == "default" else request.param)
    return request.param


@pytest.fixture(params=["reference", CPU])
def forced(request, monkeypatch):
    """Every test that takes it runs with the reference forced and with the compiled kernels forced."""
    monkeypatch.setattr(library, "FORCED", request.param)
    return request.param


@pytest.fixture
def reference(monkeypatch):
    """Forces the reference."""
    monkeypatch.setattr(library, "FORCED", "reference")
