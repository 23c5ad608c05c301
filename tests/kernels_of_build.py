"""A pytest plugin: the kernels of another build in the place of the installed ones, for `make sanitize`.

LEVELHEAD_KERNELS=build/sanitize pytest -p kernels_of_build ...
"""

import importlib.util
import os
import sys
from pathlib import Path

import torch  # its OpenMP must be loaded before the kernels' # noqa: F401

NAME = "levelhead.ops._kernels"

(path,) = Path(os.environ["LEVELHEAD_KERNELS"]).glob("_kernels*.so")
spec = importlib.util.spec_from_file_location(NAME, path)
sys.modules[NAME] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[NAME])


def pytest_report_header():
    return f"kernels: {path}, {sys.modules[NAME].instruction_set()}"
