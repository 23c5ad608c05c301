"""The example of conversion runs."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_convert_resnet(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "convert_resnet.py"), run_name="__main__")
    assert "self.bn1 + relu, self.bn2 + add + relu" in capsys.readouterr().out
