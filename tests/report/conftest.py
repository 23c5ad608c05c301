from __future__ import annotations

from pathlib import Path

import pytest
from example_study import make_study

from levelhead.report import write


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the example study."""
    folder = tmp_path_factory.mktemp("study")
    make_study(folder)
    return write(folder)
