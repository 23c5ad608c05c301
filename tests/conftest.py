"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import pytest
import torch

from levelhead.ops import library


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["default", "reference"])
def backend(request, monkeypatch):
    """Every test that takes it runs by the table of dispatch, and with the reference forced."""
    monkeypatch.setattr(library, "FORCED", None if request.param == "default" else request.param)
    return request.param


@pytest.fixture
def reference(monkeypatch):
    """Forces the reference."""
    monkeypatch.setattr(library, "FORCED", "reference")
